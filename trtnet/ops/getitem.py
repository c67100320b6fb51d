"""``x[...]``: ints, slices, ``None``, ``...``, masks and index tensors, as PyTorch has them.

The rules are those of NumPy's basic and advanced indexing with PyTorch's differences: an int
beside index tensors is a plain cut, and steps are positive. See
https://docs.pytorch.org/docs/stable/tensor_view.html and
https://numpy.org/doc/stable/user/basics.indexing.html.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.bounds import bounds, position
from trtnet.ops.elementwise import add, mul
from trtnet.ops.nonzero import nonzero_rows
from trtnet.ops.operands import (
    as_tensor,
    broadcast_dims,
    insert_axes,
    is_empty,
    is_size,
    remove_axes,
)
from trtnet.ops.operator import operator
from trtnet.ops.positions import (
    Index,
    as_index,
    empty,
    from_front,
    host_array,
    is_mask,
    take_slices,
    to_front,
)
from trtnet.ops.shape import permute, reshape, slice_
from trtnet.tensor import Parameter, Tensor, same_size, same_sizes
from trtnet.tensor.emitter import Emitter


@dataclass(frozen=True)
class Pick:
    """Positions that an index tensor takes from one axis.

    Attributes:
        index: the positions.
        takes_axis: False for ``x[True]`` and ``x[False]``, which add an axis of their own.
        extent: the size that the axis must have, that of a mask; ``None`` for any.
    """

    index: Index
    takes_axis: bool = True
    extent: Any = None


@operator(methods=("__getitem__",))
def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[...]`` with ints, slices, ``None``, ``...``, bool scalars, lists, arrays, index
    tensors and masks, and sizes known only at run time, as PyTorch has it.

    Slices are clipped as Python clips them. Constant indices are checked; negative ones count from
    the end, in index tensors too. Index tensors broadcast, and their axes stand where they stood
    if they are next to each other, and in front otherwise. A mask that is computed by the network
    selects a number of elements that depends on the data: the backend must have a NonZero layer.

    Raises:
        ShapeError: an index out of range, too many of them, index tensors that do not broadcast.
        UnsupportedError: steps that are not positive; something that is no index; a computed mask
            where the backend lacks NonZero.
    """
    items = complete(input, expand_items(input, index))
    x, kept = cut(input, items)
    picks = [(place, item) for place, item in enumerate(kept) if isinstance(item, Pick)]
    new = [place for place, item in enumerate(kept) if item is None]
    if not picks:
        return insert_axes(x, new) if new else x
    first, last = picks[0][0], picks[-1][0]
    is_adjacent = last - first + 1 == len(picks)
    target = sum(1 for item in kept[:first] if item is not None) if is_adjacent else 0
    axes = axes_of_picks(kept)
    result, rank = pick(x, [item for _, item in picks], axes, target)
    if not new:
        return result
    after = rank if is_adjacent else 0
    shifted = [place - len(picks) + after if place > first else place for place in new]
    if not is_adjacent:  # the picked axes stand in front, the others follow in order
        others = [item for item in kept if not isinstance(item, Pick)]
        shifted = [rank + place for place, item in enumerate(others) if item is None]
    return insert_axes(result, shifted)


def expand_items(x: Tensor, index: Any) -> list[Any]:
    """The items of `index`: ints and Dims, slices, ``None``, ``...`` and :class:`Pick`."""
    found: list[Any] = []
    for item in index if isinstance(index, tuple) else (index,):
        if item is None or item is Ellipsis or isinstance(item, slice) or is_size(item):
            found.append(item)
        elif isinstance(item, (bool, np.bool_)):
            found.append(Pick(np.zeros(int(item), np.int64), takes_axis=False))
        else:
            found += _picks(x, item, sum(map(_axes_taken, found)))
    return found


def _axes_taken(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return int(item.takes_axis) if isinstance(item, Pick) else 1


def _picks(x: Tensor, item: Any, at: int) -> list[Any]:
    """What an array or tensor in the place of axis `at` stands for."""
    if not isinstance(item, (Tensor, Parameter, list, tuple)) and not hasattr(item, "__array__"):
        raise UnsupportedError(
            f"[]: cannot index with {type(item).__name__}",
            got=repr(item),
            expected="ints, slices, None, ..., masks, lists, arrays or index tensors",
        )
    value = item if isinstance(item, Tensor) else host_array(item, x.network, "[]")
    if is_mask(value):
        if not isinstance(value, Tensor) and value.ndim == 0:
            return [Pick(np.zeros(int(value), np.int64), takes_axis=False)]
        rows = nonzero_rows(value, x.network, "[]")
        return [Pick(row, extent=size) for row, size in zip(rows, value.shape, strict=True)]
    index = as_index(value, x.network, "[]")
    if isinstance(index, np.ndarray) and index.ndim == 0:
        return [int(index)]
    return [Pick(index)]


def complete(x: Tensor, items: list[Any]) -> list[Any]:
    """Replaces ``...`` and adds what is left out, so that every axis has an item."""
    if sum(item is Ellipsis for item in items) > 1:
        raise ShapeError("[]: only one '...' at a time")
    used = sum(map(_axes_taken, items))
    if used > x.ndim:
        raise ShapeError("[]: too many indices", expected=f"at most {x.ndim}", got=used)
    fill = [slice(None)] * (x.ndim - used)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:at], *fill, *items[at + 1 :]]


def cut(x: Tensor, items: Sequence[Any]) -> tuple[Tensor, list[Any]]:
    """Applies ints and slices: what is left of `x`, and the items that are left of `items`:
    ``None``, slices (done) and picks, without the ints."""
    cuts: list[tuple[Any, Any, int]] = []
    for item in items:
        if _axes_taken(item):
            cuts.append(_cut(item, len(cuts), x))
    result = _slice(x, cuts)
    taking = [item for item in items if _axes_taken(item)]
    dropped = [axis for axis, item in enumerate(taking) if is_size(item)]
    if dropped:
        result = remove_axes(result, dropped)
    kept = [item for item in items if item is None or not is_size(item)]
    axis = 0
    for place, item in enumerate(kept):  # a 0-d index tensor cuts one position out, as an int does
        if isinstance(item, Pick) and isinstance(item.index, Tensor) and item.index.ndim == 0:
            index = from_front(item.index, result.shape[axis], "[]", axis)
            assert isinstance(index, Tensor)
            result = take_slices(result, index, axis)
            kept[place] = Ellipsis
        else:
            axis += _axes_taken(item)
    return result, [item for item in kept if item is not Ellipsis]


def _cut(item: Any, axis: int, x: Tensor) -> tuple[Any, Any, int]:
    """Start, length and step of what `item` leaves of an axis."""
    size = x.shape[axis]
    if is_size(item):
        return position(item, size, axis), 1, 1
    return bounds(item, size) if isinstance(item, slice) else (0, size, 1)


def _slice(x: Tensor, cuts: Sequence[tuple[Any, Any, int]]) -> Tensor:
    starts, sizes, steps = (
        (list(column) for column in zip(*cuts, strict=True)) if cuts else ([],) * 3
    )
    is_whole = all(same_size(s, 0) for s in starts) and all(same_size(s, 1) for s in steps)
    return x if is_whole and same_sizes(sizes, x.shape) else slice_(x, starts, sizes, steps)


def axes_of_picks(kept: Sequence[Any]) -> list[int]:
    """The axes of the cut tensor that picks take, in order."""
    with_axis = [item for item in kept if _axes_taken(item)]
    return [axis for axis, item in enumerate(with_axis) if isinstance(item, Pick)]


def pick(x: Tensor, picks: Sequence[Pick], axes: Sequence[int], target: int) -> tuple[Tensor, int]:
    """Takes `picks` from `axes` of `x`; the axes of their broadcast stand at `target` of the
    result. Returns it and their number."""
    sizes = [x.shape[axis] for axis in axes]
    indices = checked(picks, sizes, axes)
    shape = broadcast_shape(indices)
    others = [size for axis, size in enumerate(x.shape) if axis not in axes]
    if is_empty(shape):
        return empty(x, [*others[:target], *shape, *others[target:]]), len(shape)
    with_axis = [i for i, p in zip(indices, picks, strict=True) if p.takes_axis]
    if not with_axis:
        return insert_axes(x, [target]), len(shape)
    joined = join_axes(x, axes, target)
    position = joined_position(with_axis, sizes, x.network)
    if position.ndim < len(shape):  # x[True, i] has an axis of size one in front
        position = insert_axes(position, range(len(shape) - position.ndim))
    return take_slices(joined, position, target), len(shape)


def checked(picks: Sequence[Pick], sizes: Sequence[Any], axes: Sequence[int]) -> list[Index]:
    """The positions of `picks`, constants counted from the front and checked."""
    pairs = iter(zip(sizes, axes, strict=True))
    return [_checked(p, *next(pairs)) if p.takes_axis else p.index for p in picks]


def _checked(pick: Pick, size: Any, axis: int) -> Index:
    if isinstance(pick.extent, int) and isinstance(size, int) and pick.extent != size:
        raise ShapeError(
            "[]: a mask has another size than the axis it is for",
            expected=f"{size} on axis {axis}",
            got=pick.extent,
        )
    return pick.index if pick.extent is not None else from_front(pick.index, size, "[]", axis)


def broadcast_shape(indices: Sequence[Index]) -> list[Any]:
    """The shape of the broadcast of indices.

    Raises:
        ShapeError: they do not broadcast.
    """
    rank = max(index.ndim for index in indices)
    shapes = [(1,) * (rank - index.ndim) + tuple(index.shape) for index in indices]
    for sizes in zip(*shapes, strict=True):
        fixed = {size for size in sizes if isinstance(size, int) and size != 1}
        if len(fixed) > 1:
            raise ShapeError(
                "[]: the index tensors do not broadcast",
                got=" and ".join(str(tuple(index.shape)) for index in indices),
                expected="equal sizes, or 1",
            )
    return broadcast_dims(shapes)


def join_axes(x: Tensor, axes: Sequence[int], target: int) -> Tensor:
    """`x` with `axes` joined into one axis, which stands at `target`."""
    others = [axis for axis in range(x.ndim) if axis not in axes]
    x = permute(x, *others[:target], *axes, *others[target:])
    if len(axes) == 1:
        return x
    end = target + len(axes)
    return reshape(x, *x.shape[:target], math.prod(x.shape[target:end]), *x.shape[end:])


def joined_position(
    indices: Sequence[Index], sizes: Sequence[Any], network: Emitter[Tensor]
) -> Tensor:
    """Positions in the axis that :func:`join_axes` makes of axes of `sizes`."""
    on_host = all(isinstance(index, np.ndarray) for index in indices)
    if on_host and all(isinstance(size, numbers.Integral) for size in sizes[1:]):
        if len(indices) > 1:
            position = np.zeros((), np.int64)
            for index, size in zip(indices, sizes, strict=True):
                position = position * (1 if index is indices[0] else size) + index
            if position.min() >= 0:
                return network.constant(position, int64)
        elif isinstance(indices[0], np.ndarray) and indices[0].min() >= 0:
            return network.constant(indices[0], int64)
    tensors = [to_front(i, size, network) for i, size in zip(indices, sizes, strict=True)]
    total = tensors[0]
    for index, size in zip(tensors[1:], sizes[1:], strict=True):
        total = add(mul(total, as_tensor(size, total)), index)
    return total
