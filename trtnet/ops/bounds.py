"""Bounds of slices and positions of ints, as Python counts and clips them."""

from __future__ import annotations

import numbers
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import whole
from trtnet.tensor import Dim, Tensor, same_size


def position(item: Any, size: Any, axis: int) -> Any:
    """An int or Dim as a position on an axis of `size`, counted from the front.

    Raises:
        ShapeError: an int outside the axis.
    """
    if isinstance(item, Dim):
        return item if is_natural(item) else _wrapped(item, size)
    item = int(item)
    if isinstance(size, int) and not -size <= item < size:
        raise ShapeError(
            "[]: index out of range",
            expected=f"{-size} to {size - 1} on axis {axis}",
            got=item,
        )
    return size + item if item < 0 else item


def bounds(item: slice, size: Any) -> tuple[Any, Any, int]:
    """Start, length and step of a slice of an axis of `size`.

    Raises:
        UnsupportedError: a step that is not a positive int, as in PyTorch; a bound that is
            neither an int nor a Dim.
    """
    step = 1 if item.step is None else whole(item.step)
    is_int = isinstance(step, numbers.Integral) and not isinstance(step, bool)
    if not is_int or step < 1:
        raise UnsupportedError(
            "[]: the step must be a positive int", got=item.step, fix="trtnet.flip(x, [dim])"
        )
    start, stop, step = _bound(item.start), _bound(item.stop), int(step)
    if isinstance(size, int) and all(v is None or isinstance(v, int) for v in (start, stop)):
        found = range(size)[slice(start, stop, step)]
        return found.start if len(found) else 0, len(found), step
    start = 0 if start is None else _clip(start, size)
    length = size - start
    if stop is not None:
        length = _clip(stop, size) - start
        known = same_size(start, 0) or (isinstance(length, Dim) and is_natural(length))
        length = length if known else _not_negative(length)
    return start, (length + (step - 1)) // step if step > 1 else length, step


def _bound(value: Any) -> Any:
    value = whole(value)
    if value is None or isinstance(value, Dim):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if not isinstance(value, Tensor) and hasattr(value, "__index__"):
        return value.__index__()
    raise UnsupportedError(
        "[]: a bound of a slice must be an int or a size",
        got=type(value).__name__,
        fix="sizes such as x.shape[1] may be used; values of tensors are known only at run time",
    )


def _clip(value: Any, size: Any) -> Any:
    """A slice bound as Python has it: from the end where negative, inside ``[0, size]``."""
    if isinstance(value, int):
        if value == 0:
            return 0
        if value < 0:
            moved = size + value
            return max(moved, 0) if isinstance(moved, int) else moved.maximum(0)
        return min(value, size) if isinstance(size, int) else size.minimum(value)
    if not is_natural(value):
        value = _not_negative(_wrapped(value, size))
    if isinstance(value, int) and isinstance(size, int):
        return min(value, size)
    if _is_at_most(value, size):
        return value
    return value.minimum(size) if isinstance(value, Dim) else size.minimum(value)


def _wrapped(value: Dim, size: Any) -> Any:
    """`value` counted from the end where it is negative."""
    negative = _not_negative(-value)
    return value + (negative.minimum(1) if isinstance(negative, Dim) else min(negative, 1)) * size


def _not_negative(length: Any) -> Any:
    return max(length, 0) if isinstance(length, int) else length.maximum(0)


def is_natural(value: Any) -> bool:
    """Whether an int or a Dim is certainly not negative."""
    return bool((value.bounds.low if isinstance(value, Dim) else value) >= 0)


def _is_at_most(value: Any, size: Any) -> bool:
    """Whether `value` is certainly not above `size`."""
    return is_natural(size - value)
