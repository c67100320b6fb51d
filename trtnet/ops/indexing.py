"""Slicing by ``[]``, and picking elements by index tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtnet.dtypes import int32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import insert_axes, is_dim, is_size, is_tensor, normalize_axis, remove_axes
from trtnet.ops.shape import slice_

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[...]`` with ints, slices (positive steps), ``None``, ``...``, sizes known only at
    run time, and at most one integer index tensor.

    Raises:
        UnsupportedError: boolean masks, lists, or several index tensors.
    """
    items = _complete(input, index if isinstance(index, tuple) else (index,))
    starts: list[Any] = []
    sizes: list[Any] = []
    steps: list[int] = []
    dropped, inserted, picks = [], [], []
    position = 0  # axis of the result
    for item in items:
        if item is None:
            inserted.append(position)
            position += 1
            continue
        axis = len(starts)
        size = input.shape[axis]
        if is_size(item):
            start, length, step = _from_end(item, size, axis, input), 1, 1
            dropped.append(axis)
        elif isinstance(item, slice):
            start, length, step = _bounds(item, size, input)
            position += 1
        elif is_tensor(item):
            start, length, step = 0, size, 1
            picks.append((position, item))
            position += item.ndim
        else:
            raise UnsupportedError(
                f"[]: cannot index with {type(item).__name__}",
                module=input.network.path or None,
                expected="ints, slices, None, ..., or an index tensor",
            )
        starts.append(start)
        sizes.append(length)
        steps.append(step)
    result = input
    if any(s != 0 for s in starts) or any(s != 1 for s in steps) or tuple(sizes) != input.shape:
        result = slice_(input, starts, sizes, steps)
    if dropped:
        result = remove_axes(result, dropped)
    if len(picks) > 1:
        raise UnsupportedError(
            "[]: only one index tensor at a time",
            module=input.network.path or None,
            fix="index in two steps",
        )
    for position, indices in picks:
        before = sum(1 for at in inserted if at < position)
        result = take(result, indices, position - before)
    return insert_axes(result, inserted) if inserted else result


def _complete(x: Tensor, items: tuple[Any, ...]) -> list[Any]:
    """Replaces ``...`` and adds what is left out, so that every axis has an item."""
    if sum(item is Ellipsis for item in items) > 1:
        raise ShapeError("[]: only one '...' at a time", module=x.network.path or None)
    used = sum(1 for item in items if item is not None and item is not Ellipsis)
    if used > x.ndim:
        raise ShapeError(
            "[]: too many indices",
            module=x.network.path or None,
            expected=f"at most {x.ndim}",
            got=used,
        )
    fill = [slice(None)] * (x.ndim - used)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:at], *fill, *items[at + 1 :]]


def _from_end(item: Any, size: Any, axis: int, x: Tensor) -> Any:
    if is_dim(item):
        return item
    item = int(item)
    if isinstance(size, int) and not -size <= item < size:
        raise ShapeError(
            "[]: index out of range",
            module=x.network.path or None,
            expected=f"{-size} to {size - 1} on axis {axis}",
            got=item,
        )
    return size + item if item < 0 else item


def _bounds(item: slice, size: Any, x: Tensor) -> tuple[Any, Any, int]:
    step = 1 if item.step is None else item.step
    if not isinstance(step, int) or step < 1:
        raise UnsupportedError(
            "[]: the step must be a positive int", got=item.step, module=x.network.path or None
        )
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
            module=input.network.path or None,
        )
    dims = [*input.shape[:axis], *indices.shape, *input.shape[axis + 1 :]]
    return input.network.emit("gather", "add_gather", input, indices, axis, dims=dims)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of axis `dim` at the positions in the 1-D tensor `index`."""
    return take(input, index, normalize_axis(dim, input.ndim, input.network, "index_select"))


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """``result[i][j][k] = input[index[i][j][k]][j][k]`` for ``dim=0``, and so on. Sizes of
    `index` on other axes may be smaller than those of `input`."""
    network = input.network
    axis = normalize_axis(dim, input.ndim, network, "gather")
    if index.ndim != input.ndim:
        raise ShapeError(
            "gather: index and input must have one rank",
            got=index.shape,
            module=network.path or None,
            expected=f"rank {input.ndim}",
        )
    sizes = [
        have if i == axis else want
        for i, (have, want) in enumerate(zip(input.shape, index.shape, strict=True))
    ]
    if tuple(sizes) != input.shape:
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
