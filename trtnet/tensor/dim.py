"""Dim: a size that is known only at run time."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from trtnet.errors import NetworkError, ShapeError
from trtnet.tensor import size_arithmetic as arithmetic
from trtnet.tensor.deciding import (
    Symbolic,
    answer_of,
    compare_numbers,
    guards_of,
    is_float,
    unknown,
)
from trtnet.tensor.intervals import OPERATIONS, Interval, axes_of, evaluate
from trtnet.tensor.quotient import Quotient
from trtnet.tensor.size_arithmetic import Polynomial, limits


class Dim(Symbolic):
    """A size that is known only at run time, such as a dynamic batch.

    ``x.shape[i]`` is an ``int`` where the size is fixed and a `Dim` where it is not. Dims take
    part in arithmetic (``+ - * // % **``, ``divmod``, ``abs``, ``minimum``, ``maximum``) with ints
    and with each other; the result is a `Dim`, computed by the engine from the shapes of its
    inputs, or an int where the sizes cancel (``n - n``). ``/`` and floats give a
    :class:`trtnet.tensor.quotient.Quotient`, which ``math.ceil``, ``math.floor`` and ``round``
    make a `Dim` again. Sums that mean the same are the same `Dim`: ``2 * n // 2`` is ``n``.

    Comparisons, ``bool`` and ``int`` give the answer that holds for every size an axis may have,
    and raise :class:`trtnet.ShapeError` where there is none. An axis of an input has at least one
    position; more is known where the input declares a range, see :class:`trtnet.Axis`. Answers
    that rest on a range are kept in ``network.guards``. Hashing, and so sets and keys of dicts,
    goes by form alone; :func:`same_size` compares so.

    Args:
        network: the network whose engine computes it.
        size: an axis (``("size", itensor, axis)`` or ``("named", name, itensor, axis)``), or a
            polynomial of axes.

    Attributes:
        network: the network.
        polynomial: how it is computed, in the one form that sums of the same meaning have.
    """

    __slots__ = ()
    __array_ufunc__ = None  # `numpy.int64(2) * dim` calls Dim's operator, not numpy's

    def __init__(self, network: Any, size: tuple[Any, ...] | Polynomial) -> None:
        self.network = network
        self.polynomial = size if isinstance(size, Polynomial) else Polynomial.atom(size)

    @property
    def key(self) -> Any:
        """How it is computed, as a tree; see :mod:`trtnet.tensor.intervals`."""
        return self.polynomial.tree

    @property
    def axes(self) -> frozenset[str] | None:
        """Names of the axes it hangs on; ``None`` if it also hangs on a size without a name, such
        as one of an intermediate tensor."""
        found = axes_of(self.key)
        if any(axis[0] != "named" for axis in found):
            return None
        return frozenset(axis[1] for axis in found)

    @property
    def bounds(self) -> Interval:
        """An interval that holds all its values, whatever is declared; notes no guard."""
        return limits(self.polynomial)

    def value_at(self, assignments: Mapping[str, int]) -> int:
        """Its value where the named axes have these sizes.

        Raises:
            ShapeError: it hangs on a size that is not given.
        """

        def axis(found: tuple[Any, ...]) -> int:
            if found[0] == "named" and found[1] in assignments:
                return int(assignments[found[1]])
            raise ShapeError(
                f"{self} hangs on the size {Dim(self.network, found)}, which is not given",
                expected="sizes of named axes",
                got=dict(assignments),
            )

        value: int = evaluate(self.key, axis, OPERATIONS, int)
        return value

    # Arithmetic

    def _with(self, function: Any, other: Any, swap: bool = False) -> Any:
        right = self._operand(other)
        if right is None:
            return NotImplemented
        pair = (right, self.polynomial) if swap else (self.polynomial, right)
        return self._size(function(*pair))

    def _operand(self, other: Any) -> Polynomial | None:
        """`other`, an int or a Dim, as polynomial; ``None`` for anything else."""
        if isinstance(other, Dim):
            if other.network is not self.network:
                both = f"{self} and {other}"
                raise NetworkError("sizes of two networks cannot be mixed", got=both)
            return other.polynomial
        if isinstance(other, (int, np.integer)) and not isinstance(other, bool):
            return Polynomial.constant(int(other))
        return None

    def _is_number(self, other: Any) -> bool:
        return is_fraction(other) or self._operand(other) is not None

    def _size(self, polynomial: Polynomial) -> Any:
        value = polynomial.value
        if value is not None:
            return value
        return self if polynomial == self.polynomial else Dim(self.network, polynomial)

    def __add__(self, other: Any) -> Any:
        if is_fraction(other):
            return self._quotient() + other
        return self._with(arithmetic.add, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if is_fraction(other):
            return self._quotient() - other
        return self._with(_subtract, other)

    def __rsub__(self, other: Any) -> Any:
        if is_fraction(other):
            return other - self._quotient()
        return self._with(_subtract, other, swap=True)

    def __mul__(self, other: Any) -> Any:
        if is_fraction(other):
            return self._quotient() * other
        return self._with(arithmetic.multiply, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        if is_fraction(other):
            return self._quotient() // other
        return self._with(arithmetic.floor_divide, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._with(arithmetic.floor_divide, other, swap=True)

    def __mod__(self, other: Any) -> Any:
        return self._with(arithmetic.remainder, other)

    def __rmod__(self, other: Any) -> Any:
        return self._with(arithmetic.remainder, other, swap=True)

    def __divmod__(self, other: Any) -> Any:
        quotient = self._with(arithmetic.floor_divide, other)
        return NotImplemented if quotient is NotImplemented else (quotient, self % other)

    def __rdivmod__(self, other: Any) -> Any:
        quotient = self.__rfloordiv__(other)
        return NotImplemented if quotient is NotImplemented else (quotient, other % self)

    def __truediv__(self, other: Any) -> Any:
        return self._quotient() / other if self._is_number(other) else NotImplemented

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._quotient() if self._is_number(other) else NotImplemented

    def __pow__(self, exponent: Any) -> Any:
        if isinstance(exponent, bool) or not isinstance(exponent, (int, np.integer)):
            if is_float(exponent) or isinstance(exponent, Dim):
                raise unknown(self, f"{self} ** {exponent}")
            return NotImplemented
        if exponent < 0:
            raise unknown(self, f"{self} ** {exponent}")
        power = Polynomial.constant(1)
        for _ in range(int(exponent)):
            power = arithmetic.multiply(power, self.polynomial)
        return self._size(power)

    def __rpow__(self, base: Any) -> Any:
        return base ** self._value(f"{base} ** {self}")

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.maximum(-self)

    def minimum(self, other: Any) -> Any:
        """The smaller of two sizes."""
        return self._extreme("MIN", other)

    def maximum(self, other: Any) -> Any:
        """The larger of two sizes."""
        return self._extreme("MAX", other)

    def _extreme(self, kind: str, other: Any) -> Any:
        found = self._with(lambda a, b: arithmetic.extreme(kind, a, b), other)
        if found is NotImplemented:
            raise ShapeError(f"{self} has no {kind.lower()}imum with this", got=repr(other))
        return found

    def __round__(self, digits: int | None = None) -> Any:
        return self

    def __ceil__(self) -> Any:
        return self

    __floor__ = __trunc__ = __ceil__

    def _quotient(self) -> Quotient:
        return Quotient(self, 1)

    # Comparisons and conversions

    def _compare(self, relation: str, other: Any) -> Any:
        if isinstance(other, bool):
            other = int(other)
        right = self._operand(other)
        if right is None and is_float(other):
            return self._compare_float(relation, float(other))
        if right is None:
            return NotImplemented
        text = f"{self} {relation} {other}"
        apart = arithmetic.add(self.polynomial, right, -1)
        return answer_of(self, relation, apart, text)

    def _compare_float(self, relation: str, other: float) -> bool:
        if other != other or other in (float("inf"), float("-inf")):
            return bool(compare_numbers(relation, 1.0, other))
        exact = Fraction(other)
        apart = arithmetic.scale(self.polynomial, exact.denominator)
        apart = arithmetic.add(apart, Polynomial.constant(-exact.numerator))
        return answer_of(self, relation, apart, f"{self} {relation} {other}")

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
        return hash(self.polynomial)

    def __bool__(self) -> bool:
        return answer_of(self, "!=", self.polynomial, f"{self} != 0")

    def _value(self, text: str) -> int:
        value = guards_of(self).value(self.polynomial)
        if value is None:
            raise unknown(self, text)
        return value

    def __int__(self) -> int:
        return self._value(f"int({self})")

    def __index__(self) -> int:
        return self._value(f"int({self})")

    def __float__(self) -> float:
        return float(self._value(f"float({self})"))

    def __repr__(self) -> str:
        return repr(self.polynomial)


def same_size(a: Any, b: Any) -> bool:
    """Whether two sizes, ints or Dims, are the same in form. Never raises, and notes no guard:
    Dims that are equal for another reason, or only in a declared range, are not the same. Other
    objects than sizes are the same if they are equal.

    This is how operators compare sizes, as ``==`` between Dims raises where it has no answer.
    """
    if isinstance(a, Dim) or isinstance(b, Dim):
        both = isinstance(a, Dim) and isinstance(b, Dim)
        return both and a.network is b.network and a.polynomial == b.polynomial
    return bool(a == b)


def same_sizes(a: Any, b: Any) -> bool:
    """Whether two sequences of sizes are the same in form; see :func:`same_size`."""
    return len(a) == len(b) and all(map(same_size, a, b))


def is_fraction(value: object) -> bool:
    """Whether `value` is a number that is not an integer, or a :class:`Quotient`."""
    return isinstance(value, Quotient) or is_float(value)


def _subtract(a: Polynomial, b: Polynomial) -> Polynomial:
    return arithmetic.add(a, b, -1)
