"""Values written at index positions: scatter, index_copy, index_fill, index_put, slice_scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.accumulate import (
    accumulate,
    check_scatter,
    check_slices,
    scatter_reduce,
    vector,
)
from trtnet.ops.bounds import bounds, position
from trtnet.ops.elementwise import eq, where
from trtnet.ops.getitem import (
    Pick,
    axes_of_picks,
    broadcast_shape,
    checked,
    complete,
    expand_items,
    join_axes,
    joined_position,
)
from trtnet.ops.joining import cat
from trtnet.ops.masked import scalar, source_like
from trtnet.ops.operands import insert_axes, is_empty, normalize_axis
from trtnet.ops.operator import operator
from trtnet.ops.positions import Index, along, as_index, from_front, iota, take_slices, to_front
from trtnet.ops.reduction import amax
from trtnet.ops.shape import expand, permute, reshape, slice_
from trtnet.tensor import Dim, Tensor, same_size, same_sizes

_REDUCE = {"add": "sum", "multiply": "prod"}


@operator
def scatter(
    input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: Any = None
) -> Tensor:
    """`input` with each element of `src` written at its `index` along `dim`. Where an index occurs
    twice, one of the elements stays.

    Args:
        src: a tensor whose sizes are at least those of `index`, or a number; or `value` is one.
        reduce: ``"add"`` and ``"multiply"`` join the elements instead; see :func:`scatter_reduce`.

    Raises:
        ShapeError: sizes of `index` above those of `src`, or of `input` on other axes; a constant
            index that reaches outside.
        UnsupportedError: a source of another type.
    """
    op = "scatter"
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(dim, x.ndim, op)
    found = from_front(as_index(index, x.network, op), x.shape[axis], op, axis, False)
    if is_empty(found.shape):
        return input
    at = to_front(found, 0, x.network)
    at = at if at.ndim else reshape(at, 1)
    source = _scattered(x, at, src if value is None else value)
    if reduce is not None:
        if reduce not in _REDUCE:
            raise UnsupportedError(f"scatter: reduce={reduce!r}", expected="'add' or 'multiply'")
        return scatter_reduce(input, dim, at, source, _REDUCE[reduce])  # type: ignore[no-any-return]
    check_scatter(op, x, axis, at, source)
    if not same_sizes(source.shape, at.shape):
        source = slice_(source, [0] * at.ndim, at.shape, [1] * at.ndim)
    result = _scatter_elements(x, axis, at, source)
    return result if input.ndim else reshape(result, ())


def _scattered(x: Tensor, index: Tensor, src: Any) -> Tensor:
    if isinstance(src, (Tensor, np.ndarray)) and src.ndim:
        return source_like("scatter", src, x)
    if not isinstance(src, (Tensor, Dim, int, float, np.generic, np.ndarray)):
        source = source_like("scatter", src, x)
        if source.ndim:
            return source
        src = source
    value = scalar("scatter", src, x)
    return expand(reshape(value, *([1] * index.ndim)), *index.shape)


def _scatter_elements(x: Tensor, axis: int, index: Tensor, source: Tensor) -> Tensor:
    """A Scatter layer. TensorRT takes no more indices along `axis` than there are positions:
    `x` gets further ones, which are cut off again."""
    network, (count, size) = x.network, (index.shape[axis], x.shape[axis])
    are_fixed = isinstance(count, int) and isinstance(size, int)
    fits = count <= size if are_fixed else same_size(count, size)
    zeros, ones = [0] * x.ndim, [1] * x.ndim
    wide = x
    if not fits:
        larger = _larger(count, size)
        sizes = [larger if i == axis else n for i, n in enumerate(x.shape)]
        wide = slice_(x, zeros, sizes, ones, mode="FILL", fill=0)
    mode = network.trt.ScatterMode.ELEMENT
    result = network.emit(
        "scatter", "add_scatter", wide, index, source, mode, dims=wide.shape, axis=axis
    )
    return result if fits else slice_(result, zeros, x.shape, ones)


def _larger(a: Any, b: Any) -> Any:
    if isinstance(a, Dim):
        return a.maximum(b)
    return b.maximum(a) if isinstance(b, Dim) else max(a, b)


@operator
def index_copy(input: Tensor, dim: int, index: Any, source: Any) -> Tensor:
    """`input` with each slice of `source` along `dim` written at its position in `index`. Where an
    index occurs twice, one of the slices stays.

    Raises:
        ShapeError: a source of another shape; a constant index that reaches outside.
        UnsupportedError: a source of another type.
    """
    op = "index_copy"
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(dim, x.ndim, op)
    found = from_front(as_index(index, x.network, op), x.shape[axis], op, axis, False)
    at = vector(op, found, x)
    if at is None:
        return input
    taken = source_like(op, source, x)
    taken = taken if taken.ndim else reshape(taken, 1)
    check_slices(op, x, axis, at, taken)
    result = write_slices(x, axis, found, taken)
    return result if input.ndim else reshape(result, ())


def write_slices(x: Tensor, axis: int, index: Index, source: Tensor) -> Tensor:
    """`x` with slice `i` of `source` along `axis` at position ``index[i]``."""
    size, count = x.shape[axis], source.shape[axis]
    if isinstance(index, np.ndarray) and isinstance(size, int) and isinstance(count, int):
        picks = np.arange(size)  # from `x` with `source` behind it: no Scatter layer
        picks[index.reshape(-1)] = size + np.arange(count)
        if np.array_equal(picks, size + np.arange(count)):
            return source
        both = cat([x, source], axis)
        return take_slices(both, x.network.constant(picks, int64), axis)
    at = to_front(index, size, x.network)
    order = [axis, *(i for i in range(x.ndim) if i != axis)]
    mode = x.network.trt.ScatterMode.ND
    first, updates = permute(x, *order), permute(source, *order)
    rows = reshape(at, count, 1)
    done = x.network.emit("scatter", "add_scatter", first, rows, updates, mode, dims=first.shape)
    return permute(done, *(order.index(i) for i in range(x.ndim)))


@operator
def index_fill(input: Tensor, dim: int, index: Any, value: Any) -> Tensor:
    """`input` with `value`, a number or a tensor without axes, at the positions `index` of `dim`.

    Raises:
        ShapeError: a constant index that reaches outside.
        UnsupportedError: a value that the type cannot hold.
    """
    op = "index_fill"
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(dim, x.ndim, op)
    size = x.shape[axis]
    found = from_front(as_index(index, x.network, op), size, op, axis)
    at = vector(op, found, x)
    if at is None:
        return input
    if isinstance(found, np.ndarray) and isinstance(size, int):
        held = np.isin(np.arange(size), found)
        shape = [size if i == axis else 1 for i in range(x.ndim)]
        mask = x.network.constant(held.reshape(shape))
    else:
        at = to_front(found, size, x.network) if isinstance(found, np.ndarray) else at
        hits = eq(reshape(at, -1, 1), along(iota(x.network, size), 1, 2))
        mask = along(amax(hits.int(), 0).bool(), axis, x.ndim)
    result = where(mask, scalar(op, value, x), x)
    return result if input.ndim else reshape(result, ())


@operator
def index_put(
    input: Tensor, indices: Sequence[Any], values: Any, accumulate: bool = False
) -> Tensor:
    """`input` with `values` written at ``input[indices]``, to whose shape they broadcast.

    Args:
        indices: index tensors, lists, arrays, masks; ``None`` for a whole axis.
        accumulate: add to what is there, equal positions add up; otherwise one of the values that
            are written to one position stays.

    Raises:
        ShapeError: indices that do not broadcast, reach outside, or are too many.
        UnsupportedError: a source of another type; a computed mask with more than one value where
            the backend has no NonZero layer.
    """
    op = "index_put"
    masked = _put_by_mask(input, indices, values, accumulate)
    if masked is not None:
        return masked
    items = tuple(slice(None) if item is None else item for item in indices)
    kept = complete(input, expand_items(input, items))
    kept = [Pick(np.array([item]), True) if isinstance(item, int) else item for item in kept]
    picks = [item for item in kept if isinstance(item, Pick)]
    axes = axes_of_picks(kept)
    if not picks:
        raise UnsupportedError("index_put: needs at least one index")
    target = axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0
    sizes = [input.shape[axis] for axis in axes]
    found = checked(picks, sizes, axes)
    shape = broadcast_shape(found)
    if is_empty(shape):
        return input
    rest = [size for i, size in enumerate(input.shape) if i not in axes]
    joined = join_axes(input, axes, target)
    if any(isinstance(size, int) and size < 0 for size in shape):
        raise ShapeError(
            "index_put: sizes known only at run time do not tell how the indices broadcast",
            got=" and ".join(str(tuple(index.shape)) for index in found),
            fix="give axes of one size one name in network.input(...), or expand the indices first",
        )
    source = _stretch(source_like(op, values, input), [*rest[:target], *shape, *rest[target:]])
    at = _stretch(joined_position(found, sizes, input.network), shape)
    source = reshape(source, *rest[:target], _count(shape), *rest[target:])
    at = reshape(at, _count(shape))
    if accumulate:
        written = _add(op, joined, target, at, source)
    else:
        written = write_slices(joined, target, at, source)
    return _unjoined(written, input.shape, axes, target)


def _stretch(x: Tensor, sizes: Sequence[Any]) -> Tensor:
    """`x` with its axes of size 1 repeated to `sizes`; another size that is known only at run time
    is taken to be the same.

    Raises:
        ShapeError: sizes that do not broadcast.
    """
    if x.ndim > len(sizes):
        raise ShapeError(
            "index_put: the values have too many axes", expected=tuple(sizes), got=x.shape
        )
    x = insert_axes(x, range(len(sizes) - x.ndim)) if x.ndim < len(sizes) else x
    wanted = []
    for have, size in zip(x.shape, sizes, strict=True):
        known = isinstance(have, int) and isinstance(size, int)
        if known and have not in (1, size):
            raise ShapeError(
                "index_put: the values do not broadcast to what the indices select",
                expected=tuple(sizes),
                got=x.shape,
            )
        wanted.append(size if isinstance(have, int) and have == 1 else have)
    return expand(x, *wanted)


def _count(shape: Sequence[Any]) -> Any:
    total: Any = 1
    for size in shape:
        total = total * size
    return total


def _add(op: str, x: Tensor, axis: int, at: Tensor, source: Tensor) -> Tensor:
    return accumulate(op, x, axis, along(at, axis, x.ndim), source, "sum", True)


def _unjoined(x: Tensor, shape: Sequence[Any], axes: Sequence[int], target: int) -> Tensor:
    """Undoes :func:`trtnet.ops.getitem.join_axes`."""
    others = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*others[:target], *axes, *others[target:]]
    if len(axes) > 1:
        x = reshape(x, *(shape[axis] for axis in order))
    return permute(x, *(order.index(axis) for axis in range(len(shape))))


def _put_by_mask(x: Tensor, indices: Sequence[Any], values: Any, accumulate: bool) -> Tensor | None:
    """``x[mask] = value`` for a computed mask of the first axes and a value that has none of
    them: a Select layer."""
    if len(indices) != 1 or not isinstance(indices[0], Tensor):
        return None
    (mask,) = indices
    if mask.dtype is not DType.BOOL or mask.ndim > x.ndim:
        return None
    source = source_like("index_put", values, x)
    rest = x.ndim - mask.ndim
    if source.ndim > rest and not all(same_size(n, 1) for n in source.shape[: source.ndim - rest]):
        return None
    if source.ndim > rest:
        source = reshape(source, *source.shape[source.ndim - rest :])
    held = insert_axes(mask, range(mask.ndim, x.ndim)) if rest else mask
    return where(held, x + source if accumulate else source, x)


@operator
def slice_scatter(
    input: Tensor, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    """`input` with `src` written to ``input[start:end:step]`` of axis `dim`.

    Raises:
        ShapeError: `src` has another shape than that slice.
    """
    op = "slice_scatter"
    axis = normalize_axis(dim, input.ndim, op)
    size = input.shape[axis]
    first, count, step = bounds(slice(start, end, step), size)
    source = source_like(op, src, input)
    wanted = [count if i == axis else n for i, n in enumerate(input.shape)]
    pairs = list(zip(source.shape, wanted, strict=False))
    if source.ndim != input.ndim or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs
    ):
        raise ShapeError(
            f"{op}: src has another shape than the slice", expected=tuple(wanted), got=source.shape
        )
    if isinstance(count, int) and count == 0:
        return input
    if isinstance(first, int) and isinstance(count, int):
        return write_slices(input, axis, first + step * np.arange(count), source)
    places = iota(input.network, count) * step + first
    return write_slices(input, axis, places, source)


@operator
def select_scatter(input: Tensor, src: Any, dim: int, index: Any) -> Tensor:
    """`input` with `src`, which has one axis less, written to position `index` of axis `dim`.

    Raises:
        ShapeError: `src` has another shape; an int outside the axis.
    """
    op = "select_scatter"
    axis = normalize_axis(dim, input.ndim, op)
    at = position(index, input.shape[axis], axis)
    source = source_like(op, src, input)
    if source.ndim != input.ndim - 1:
        raise ShapeError(f"{op}: src must have one axis less", got=source.shape)
    source = insert_axes(source, [axis])
    found = at if isinstance(at, Dim) else int(at)
    return slice_scatter(input, source, axis, found, found + 1)  # type: ignore[no-any-return]
