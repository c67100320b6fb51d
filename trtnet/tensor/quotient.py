"""Quotient: a size divided by another, before it is rounded."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.tensor.deciding import (
    Symbolic,
    answer_of,
    compare_numbers,
    guards_of,
    is_float,
    unknown,
)

_FINEST = 2**10  # denominators of floats that products with sizes hold exactly


class Quotient:
    """``a / b`` of sizes that are known only at run time: what Python computes as a float.

    ``math.ceil``, ``math.floor``, ``math.trunc`` and ``round`` give a :class:`trtnet.Dim` with the
    value that Python's float arithmetic gives. Operations whose rounding in Python could change
    that value are refused.

    Attributes:
        top, bottom: ints or Dims; `bottom` is positive, or a Dim.
    """

    __slots__ = ("bottom", "top")
    __array_ufunc__ = None

    def __init__(self, top: Any, bottom: Any) -> None:
        if isinstance(bottom, int) and bottom < 0:
            top, bottom = -top, -bottom
        self.top, self.bottom = top, bottom

    @property
    def _dim(self) -> Any:
        return self.top if isinstance(self.top, Symbolic) else self.bottom

    @property
    def _is_exact(self) -> bool:
        """Whether floats hold its values exactly: the divisor is a power of two."""
        bottom = self.bottom
        return isinstance(bottom, int) and bottom & (bottom - 1) == 0 and bottom <= _FINEST

    def _of(self, other: Any) -> Quotient | None:
        if isinstance(other, Quotient):
            return other
        if isinstance(other, (int, np.integer, Symbolic)) and not isinstance(other, bool):
            return Quotient(other if isinstance(other, Symbolic) else int(other), 1)
        if is_float(other) and np.isfinite(other):
            exact = Fraction(float(other))
            if exact.denominator <= _FINEST:
                return Quotient(exact.numerator, exact.denominator)
        if is_float(other):
            raise self._inexact(other)
        return None

    def _inexact(self, other: Any) -> ShapeError:
        return ShapeError(
            f"Python would round {self} and {other}, so the size that follows is not sure",
            fix="write it with whole numbers and //, such as size * 7 // 10 for int(size * 0.7)",
        )

    def _sum(self, other: Any, sign: int) -> Any:
        right = self._of(other)
        if right is None:
            return NotImplemented
        whole = _is_one(right.bottom) or _is_one(self.bottom)
        if not whole and not self._is_exact and not right._is_exact:
            raise self._inexact(right)
        top = self.top * right.bottom + right.top * self.bottom * sign
        return _made(top, self.bottom * right.bottom)

    def __add__(self, other: Any) -> Any:
        return self._sum(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._sum(other, -1)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        right = self._of(other)
        if right is None:
            return NotImplemented
        if not (self._is_exact and right._is_exact):
            raise self._inexact(right)
        return _made(self.top * right.top, self.bottom * right.bottom)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        right = self._of(other)
        if right is None:
            return NotImplemented
        if not right._is_exact:
            raise self._inexact(right)
        if isinstance(right.top, int) and right.top == 0:
            raise ZeroDivisionError(f"{self} / 0")
        if not _is_one(right.bottom) and not self._is_exact:
            raise self._inexact(right)
        return _made(self.top * right.bottom, self.bottom * right.top)

    def __rtruediv__(self, other: Any) -> Any:
        left = self._of(other)
        return NotImplemented if left is None else left / self

    def __floordiv__(self, other: Any) -> Any:
        quotient = self / other
        return NotImplemented if quotient is NotImplemented else _made(quotient.__floor__(), 1)

    def __neg__(self) -> Quotient:
        return Quotient(-self.top, self.bottom)

    def __floor__(self) -> Any:
        return self.top // self.bottom

    def __ceil__(self) -> Any:
        return -(-self.top // self.bottom)

    def __trunc__(self) -> Any:
        down, up = self.__floor__(), self.__ceil__()
        return _larger(down, 0) + -_larger(-up, 0)

    def __round__(self, digits: int | None = None) -> Any:
        """To the nearest whole number; halves to the even one, as Python rounds."""
        if digits is not None:
            raise unknown(self._dim, f"round({self}, {digits})")
        twice, step = 2 * self.top + self.bottom, 2 * self.bottom
        up = twice // step
        is_half = 1 - _smaller(twice % step, 1) if _positive(self.bottom) else None
        if is_half is None:
            raise unknown(self._dim, f"round({self})")
        return up - is_half * (up % 2)

    def _compare(self, relation: str, other: Any) -> Any:
        if is_float(other) and not np.isfinite(other):
            return compare_numbers(relation, 1.0, float(other))
        right = self._of(other)
        if right is None:
            return NotImplemented
        text = f"{self} {relation} {other}"
        sure = right._is_exact or _is_one(self.bottom)
        if not sure or not _positive(self.bottom) or not _positive(right.bottom):
            raise unknown(self._dim, text)
        apart = self.top * right.bottom - right.top * self.bottom
        if not isinstance(apart, Symbolic):
            return compare_numbers(relation, apart, 0)
        return answer_of(self._dim, relation, apart.polynomial, text)

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare(">=", other)

    def __hash__(self) -> int:
        return hash(self.top) if _is_one(self.bottom) else hash((self.top, self.bottom))

    def __bool__(self) -> bool:
        return bool(self._compare("!=", 0))

    def __int__(self) -> int:
        whole = self.__trunc__()
        value = guards_of(whole).value(whole.polynomial) if isinstance(whole, Symbolic) else whole
        if value is None:
            raise unknown(self._dim, f"int({self})")
        return int(value)

    def __float__(self) -> float:
        top, bottom = (
            guards_of(part).value(part.polynomial) if isinstance(part, Symbolic) else int(part)
            for part in (self.top, self.bottom)
        )
        if top is None or bottom is None:
            raise unknown(self._dim, f"float({self})")
        return top / bottom

    def __repr__(self) -> str:
        parts = (str(part) for part in (self.top, self.bottom))
        top, bottom = (f"({part})" if " " in part else part for part in parts)
        return top if bottom == "1" else f"{top} / {bottom}"


def _made(top: Any, bottom: Any) -> Any:
    """A Quotient, or a float where no size is left."""
    if isinstance(top, Symbolic) or isinstance(bottom, Symbolic):
        return Quotient(top, bottom)
    return top / bottom


def _is_one(value: Any) -> bool:
    return isinstance(value, int) and value == 1


def _positive(value: Any) -> bool:
    """Whether `value`, a divisor and so not 0, is known to be positive."""
    return value > 0 if isinstance(value, int) else value.bounds.low >= 0


def _larger(a: Any, b: int) -> Any:
    return max(a, b) if isinstance(a, int) else a.maximum(b)


def _smaller(a: Any, b: int) -> Any:
    return min(a, b) if isinstance(a, int) else a.minimum(b)
