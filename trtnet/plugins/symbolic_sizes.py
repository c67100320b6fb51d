"""Symbolic sizes: what shape rules and launch grids compute with before sizes are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from trtnet.errors import ShapeError

# Integer arithmetic, by the names of TensorRT's DimensionOperation.
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
    """The size of an axis that is known only at run time.

    Sizes take ``+ - * //`` with ints and with each other, and :func:`cdiv`, :func:`minimum` and
    :func:`maximum`. Comparing a size, or converting it to a number, raises ``ShapeError``.

    Attributes:
        key: ``("input", i, axis)`` for axis `axis` of input `i`, or the name of one of
            :data:`OPERATIONS` and its two operands.
    """

    __slots__ = ("key",)

    def __init__(self, *key: Any) -> None:
        self.key = key

    def __add__(self, other: AnySize) -> AnySize:
        return combine("SUM", self, other)

    def __sub__(self, other: AnySize) -> AnySize:
        return combine("SUB", self, other)

    def __mul__(self, other: AnySize) -> AnySize:
        return combine("PROD", self, other)

    def __floordiv__(self, other: AnySize) -> AnySize:
        return combine("FLOOR_DIV", self, other)

    def __radd__(self, other: AnySize) -> AnySize:
        return combine("SUM", other, self)

    def __rsub__(self, other: AnySize) -> AnySize:
        return combine("SUB", other, self)

    def __rmul__(self, other: AnySize) -> AnySize:
        return combine("PROD", other, self)

    def __rfloordiv__(self, other: AnySize) -> AnySize:
        return combine("FLOOR_DIV", other, self)

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


AnySize = int | Size
SymbolicShape = tuple[AnySize, ...]


def combine(operation: str, left: AnySize, right: AnySize) -> AnySize:
    """Returns ``left operation right``: an int where both are ints, else a :class:`Size`.

    Args:
        operation: a key of :data:`OPERATIONS`.

    Returns:
        ``NotImplemented`` for operands that are neither ints nor sizes.
    """
    if not (_is_size(left) and _is_size(right)):
        return cast(AnySize, NotImplemented)
    if isinstance(left, int) and isinstance(right, int):
        return OPERATIONS[operation](left, right)
    if operation == "PROD" and 1 in (left, right):
        return right if left == 1 else left
    return Size(operation, left, right)


def cdiv(left: AnySize, right: AnySize) -> AnySize:
    """Returns ``left / right``, rounded up.

    Raises:
        ShapeError: an operand is neither an int nor a size.

    >>> cdiv(1025, 1024)
    2
    """
    return _call("cdiv", "CEIL_DIV", left, right)


def minimum(left: AnySize, right: AnySize) -> AnySize:
    """Returns the smaller of two sizes.

    Raises:
        ShapeError: an operand is neither an int nor a size.
    """
    return _call("minimum", "MIN", left, right)


def maximum(left: AnySize, right: AnySize) -> AnySize:
    """Returns the larger of two sizes.

    Raises:
        ShapeError: an operand is neither an int nor a size.
    """
    return _call("maximum", "MAX", left, right)


Value = TypeVar("Value")


def evaluate(
    size: AnySize,
    axis_value: Callable[[int, int], Value],
    apply: Callable[[str, Value | int, Value | int], Value],
) -> Value | int:
    """Computes `size` in another arithmetic, such as TensorRT's.

    Args:
        size: an int, which is returned as it is, or a :class:`Size`.
        axis_value: ``axis_value(input, axis)`` gives the value of an axis of an input.
        apply: ``apply(operation, left, right)`` computes one of :data:`OPERATIONS`; ints in `size`
            are passed as ints.

    >>> rows = Size("input", 0, 0)
    >>> evaluate(cdiv(rows * 3, 4), lambda i, axis: 7, lambda op, a, b: OPERATIONS[op](a, b))
    6
    """
    if isinstance(size, int):
        return size
    if size.key[0] == "input":
        return axis_value(*size.key[1:])
    operation, left, right = size.key
    return apply(operation, evaluate(left, axis_value, apply), evaluate(right, axis_value, apply))


def _is_size(value: object) -> bool:
    return isinstance(value, (int, Size)) and not isinstance(value, bool)


def _call(function: str, operation: str, left: AnySize, right: AnySize) -> AnySize:
    result = combine(operation, left, right)
    if result is NotImplemented:
        raise ShapeError(
            f"{function}() takes sizes",
            expected="ints, and sizes of axes",
            got=f"{left!r} and {right!r}",
        )
    return result
