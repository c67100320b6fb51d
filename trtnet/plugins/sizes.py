"""Sizes that a shape rule or a launch computes with, before they are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trtnet.errors import ShapeError

# By the names of TensorRT's DimensionOperation.
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "SUM": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "PROD": lambda a, b: a * b,
    "FLOOR_DIV": lambda a, b: a // b,
    "CEIL_DIV": lambda a, b: -(-a // b),
    "MIN": min,
    "MAX": max,
}


class Size:
    """A size known only at run time: ``+ - * //`` with ints and with each other, and :func:`cdiv`,
    :func:`minimum` and :func:`maximum`.

    Attributes:
        key: ``("input", i, axis)``, or an operation of :data:`OPERATIONS` and its operands.
    """

    __slots__ = ("key",)

    def __init__(self, *key: Any) -> None:
        self.key = key

    def __add__(self, other: Any) -> Any:
        return join("SUM", self, other)

    def __sub__(self, other: Any) -> Any:
        return join("SUB", self, other)

    def __mul__(self, other: Any) -> Any:
        return join("PROD", self, other)

    def __floordiv__(self, other: Any) -> Any:
        return join("FLOOR_DIV", self, other)

    def __radd__(self, other: Any) -> Any:
        return join("SUM", other, self)

    def __rsub__(self, other: Any) -> Any:
        return join("SUB", other, self)

    def __rmul__(self, other: Any) -> Any:
        return join("PROD", other, self)

    def __rfloordiv__(self, other: Any) -> Any:
        return join("FLOOR_DIV", other, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def _unknown(self, *_: object) -> Any:
        raise ShapeError(
            f"the size {self} is known only at run time",
            fix="compute with it by + - * // and trtnet.plugins.cdiv, minimum and maximum, or "
            "give the axis a fixed size",
        )

    __int__ = __index__ = __float__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = _unknown

    def __repr__(self) -> str:
        if self.key[0] == "input":
            return f"input {self.key[1]}'s axis {self.key[2]}"
        return f"{self.key[0].lower()}({self.key[1]!r}, {self.key[2]!r})"


def join(operation: str, left: Any, right: Any) -> Any:
    """``left operation right``: an int where both are ints."""
    if not all(isinstance(n, (int, Size)) and not isinstance(n, bool) for n in (left, right)):
        return NotImplemented
    if isinstance(left, int) and isinstance(right, int):
        return OPERATIONS[operation](left, right)
    if operation == "PROD" and 1 in (left, right):
        return right if left == 1 else left
    return Size(operation, left, right)


def cdiv(left: Any, right: Any) -> Any:
    """``left / right``, rounded up.

    >>> cdiv(1025, 1024)
    2
    """
    return join("CEIL_DIV", left, right)


def minimum(left: Any, right: Any) -> Any:
    """The smaller of two sizes."""
    return join("MIN", left, right)


def maximum(left: Any, right: Any) -> Any:
    """The larger of two sizes."""
    return join("MAX", left, right)


def evaluate(size: Any, leaf: Callable[[int, int], Any], apply: Callable[..., Any]) -> Any:
    """`size` in another arithmetic: ``leaf(input, axis)`` is what an axis becomes, and
    ``apply(operation, left, right)`` computes; ints go to `apply` as they are.

    >>> rows = Size("input", 0, 0)
    >>> evaluate(cdiv(rows * 3, 4), lambda i, axis: 7, lambda op, a, b: OPERATIONS[op](a, b))
    6
    """
    if isinstance(size, int):
        return size
    if size.key[0] == "input":
        return leaf(*size.key[1:])
    operation, left, right = size.key
    return apply(operation, evaluate(left, leaf, apply), evaluate(right, leaf, apply))
