"""Slicing by ``[]``, and picking elements by index tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.dtypes import int32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import insert_axes, is_size, normalize_axis, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.shape import slice_
from trtnet.tensor import Dim, Tensor, same_size, same_sizes


@operator(methods=("__getitem__",))
def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[...]`` with ints, slices (positive steps), ``None``, ``...``, sizes known only at
    run time, and at most one integer index tensor.

    Raises:
        UnsupportedError: boolean masks, lists, or several index tensors.
    """
    items = _complete(input, index if isinstance(index, tuple) else (index,))
    if sum(isinstance(item, Tensor) for item in items) > 1:
        raise UnsupportedError("[]: only one index tensor at a time", fix="index in two steps")
    per_axis = [item for item in items if item is not None]
    cuts = [_cut(item, axis, input) for axis, item in enumerate(per_axis)]
    result = _slice(input, cuts)
    dropped = [axis for axis, item in enumerate(per_axis) if is_size(item)]
    if dropped:
        result = remove_axes(result, dropped)
    remaining = [item for item in per_axis if not is_size(item)]
    for axis, item in enumerate(remaining):
        if isinstance(item, Tensor):
            result = take(result, item, axis)
    new = _new_axes(items)
    return insert_axes(result, new) if new else result


def _cut(item: Any, axis: int, x: Tensor) -> tuple[Any, Any, int]:
    """Start, length and step of what `item` leaves of an axis."""
    size = x.shape[axis]
    if is_size(item):
        return _from_end(item, size, axis), 1, 1
    if isinstance(item, slice):
        return _bounds(item, size)
    if isinstance(item, Tensor):
        return 0, size, 1
    raise UnsupportedError(
        f"[]: cannot index with {type(item).__name__}",
        expected="ints, slices, None, ..., or an index tensor",
    )


def _slice(x: Tensor, cuts: Sequence[tuple[Any, Any, int]]) -> Tensor:
    starts, sizes, steps = (
        (list(column) for column in zip(*cuts, strict=True)) if cuts else ([],) * 3
    )
    is_whole = all(same_size(s, 0) for s in starts) and all(s == 1 for s in steps)
    return x if is_whole and same_sizes(sizes, x.shape) else slice_(x, starts, sizes, steps)


def _new_axes(items: Sequence[Any]) -> list[int]:
    """Positions in the result of the axes that ``None`` inserts."""
    found, position = [], 0
    for item in items:
        if item is None:
            found.append(position)
        if not is_size(item):
            position += item.ndim if isinstance(item, Tensor) else 1
    return found


def _complete(x: Tensor, items: tuple[Any, ...]) -> list[Any]:
    """Replaces ``...`` and adds what is left out, so that every axis has an item."""
    if sum(item is Ellipsis for item in items) > 1:
        raise ShapeError("[]: only one '...' at a time")
    used = sum(1 for item in items if item is not None and item is not Ellipsis)
    if used > x.ndim:
        raise ShapeError(
            "[]: too many indices",
            expected=f"at most {x.ndim}",
            got=used,
        )
    fill = [slice(None)] * (x.ndim - used)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:at], *fill, *items[at + 1 :]]


def _from_end(item: Any, size: Any, axis: int) -> Any:
    if isinstance(item, Dim):
        return item
    item = int(item)
    if isinstance(size, int) and not -size <= item < size:
        raise ShapeError(
            "[]: index out of range",
            expected=f"{-size} to {size - 1} on axis {axis}",
            got=item,
        )
    return size + item if item < 0 else item


def _bounds(item: slice, size: Any) -> tuple[Any, Any, int]:
    step = 1 if item.step is None else item.step
    if not isinstance(step, int) or step < 1:
        raise UnsupportedError("[]: the step must be a positive int", got=item.step)
    if isinstance(size, int) and all(
        v is None or isinstance(v, int) for v in (item.start, item.stop)
    ):
        found = range(size)[item]
        return found.start if len(found) else 0, len(found), step
    start = 0 if item.start is None else _clip(item.start, size)
    length = size - start
    if item.stop is not None:
        length = _not_negative(_clip(item.stop, size) - start)
    return start, (length + (step - 1)) // step if step > 1 else length, step


def _clip(value: Any, size: Any) -> Any:
    """A slice bound as Python has it: from the end where negative, inside ``[0, size]``."""
    if isinstance(value, int):
        if value == 0:
            return 0
        if value < 0:
            moved = size + value
            return max(moved, 0) if isinstance(moved, int) else moved.maximum(0)
        return min(value, size) if isinstance(size, int) else size.minimum(value)
    if value.bounds.high < 0:
        return _not_negative(size + value)
    return value  # a Dim, trusted to lie inside


def _not_negative(length: Any) -> Any:
    return max(length, 0) if isinstance(length, int) else length.maximum(0)


def take(input: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Replaces axis `axis` by the axes of `indices`: ``result[.., i.., ..] =
    input[.., indices[i..], ..]``. Indices are not negative."""
    if indices.dtype not in (int32, int64):
        raise UnsupportedError(
            "[]: an index tensor must be int32 or int64",
            got=indices.dtype,
        )
    dims = [*input.shape[:axis], *indices.shape, *input.shape[axis + 1 :]]
    return input.network.emit("gather", "add_gather", input, indices, axis, dims=dims)


@operator
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of axis `dim` at the positions in the 1-D tensor `index`."""
    return take(input, index, normalize_axis(dim, input.ndim, "index_select"))


@operator
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """``result[i][j][k] = input[index[i][j][k]][j][k]`` for ``dim=0``, and so on. Sizes of
    `index` on other axes may be smaller than those of `input`."""
    network = input.network
    axis = normalize_axis(dim, input.ndim, "gather")
    if index.ndim != input.ndim:
        raise ShapeError(
            "gather: index and input must have one rank",
            got=index.shape,
            expected=f"rank {input.ndim}",
        )
    sizes = [
        have if i == axis else want
        for i, (have, want) in enumerate(zip(input.shape, index.shape, strict=True))
    ]
    if not same_sizes(sizes, input.shape):
        input = slice_(input, [0] * input.ndim, sizes, [1] * input.ndim)
    return network.emit(
        "gather",
        "add_gather_v2",
        input,
        index,
        network.trt.GatherMode.ELEMENT,
        dims=index.shape,
        axis=axis,
    )
