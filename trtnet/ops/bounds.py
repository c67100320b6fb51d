"""Bounds of slices and positions of ints, as Python counts and clips them."""

from __future__ import annotations

import numbers
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.tensor import Dim, Tensor

_GROWING = ("SUM", "PROD", "FLOOR_DIV", "MIN")  # of sizes that are not negative, none is negative


def position(item: Any, size: Any, axis: int) -> Any:
    """An int or Dim as a position on an axis of `size`, counted from the front.

    Raises:
        ShapeError: an int outside the axis.
    """
    if isinstance(item, Dim):
        return item if is_natural(item.key) else _wrapped(item, size)
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
    step = 1 if item.step is None else item.step
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
        known = start == 0 or (isinstance(length, Dim) and is_natural(length.key))
        length = length if known else _not_negative(length)
    return start, (length + (step - 1)) // step if step > 1 else length, step


def _bound(value: Any) -> Any:
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
    if not is_natural(value.key):
        value = _wrapped(value, size).maximum(0)
    if isinstance(size, Dim) and _is_at_most(value.key, size.key):
        return value
    return value.minimum(size)


def _wrapped(value: Dim, size: Any) -> Any:
    """`value` counted from the end where it is negative."""
    return value + (0 - value).maximum(0).minimum(1) * size


def _not_negative(length: Any) -> Any:
    return max(length, 0) if isinstance(length, int) else length.maximum(0)


def is_natural(key: Any) -> bool:
    """Whether the key of a Dim, or an int, is certainly not negative."""
    if not isinstance(key, tuple):
        return bool(key >= 0)
    if key[0] in ("size", "named"):
        return True
    if key[0] in _GROWING:
        return all(map(is_natural, key[1:]))
    if key[0] == "SUB":  # no axis is empty
        return is_natural(key[1]) and (key[2] == 1 or _is_at_most(key[2], key[1]))
    return key[0] == "MAX" and any(map(is_natural, key[1:]))


def _is_at_most(key: Any, size: Any) -> bool:
    """Whether the size `key` is certainly not above `size`."""
    if key == size:
        return True
    if not isinstance(key, tuple):
        return False
    if key[0] == "MIN":
        return any(_is_at_most(part, size) for part in key[1:])
    if key[0] == "SUB":
        return _is_at_most(key[1], size) and is_natural(key[2])
    if key[0] == "FLOOR_DIV":
        is_divisor = isinstance(key[2], int) and key[2] >= 1
        return is_divisor and is_natural(key[1]) and _is_at_most(key[1], size)
    return False
