"""The TopK layer, and what stands on it: stable order, and more elements than the layer takes.

TensorRT's TopK gives at most 3840 elements. A longer axis is cut into pieces that it sorts; the
position of each element in the whole is its position in its piece and the number of elements of
every other piece that come before it, which a binary search finds in all pieces at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32, int64
from trtnet.errors import UnsupportedError
from trtnet.ops.cumulative import cumsum
from trtnet.ops.elementwise import (
    add,
    eq,
    gt,
    le,
    logical_and,
    logical_not,
    logical_or,
    lt,
    mul,
    ne,
    where,
)
from trtnet.ops.indexing import gather_elements
from trtnet.ops.joining import cat
from trtnet.ops.operands import as_tensor, insert_axes, remove_axes
from trtnet.ops.shape import expand, slice_, transpose
from trtnet.tensor import Tensor, same_size, same_sizes

LIMIT = 3840  # TensorRT's largest k
LARGEST = 2**28  # elements of all searches together


def top_k(
    x: Tensor, k: Any, axis: int, largest: bool, stable: bool = False
) -> tuple[Tensor, Tensor]:
    """The first `k` (an int or Dim) elements along `axis` in descending order if `largest`, else
    in ascending order, and their positions (int64).

    Args:
        stable: equal elements stand in the order of their positions.

    Raises:
        UnsupportedError: more than 3840 elements of an axis whose size is known only at run time,
            or of one that is too long.
    """
    if x.dtype in (DType.BOOL, DType.INT8, DType.UINT8):
        values, indices = top_k(x.to(int32), k, axis, largest, stable)
        return values.to(x.dtype), indices
    if x.ndim == 1:  # TensorRT wants at least two axes
        found = top_k(insert_axes(x, [0]), k, 1, largest, stable)
        return remove_axes(found[0], [0]), remove_axes(found[1], [0])
    size = x.shape[axis]
    is_long = isinstance(k, int) and (
        k > LIMIT or (stable and isinstance(size, int) and size > LIMIT)
    )
    if not is_long:
        if stable and not same_size(k, size):  # which of equal elements are taken matters too
            values, indices = top_k(x, size, axis, largest, stable)
            return _first(values, k, axis), _first(indices, k, axis)
        values, indices = _layer(x, k, axis, largest)
        return _in_order(x, values, indices, axis) if stable else (values, indices)
    if not isinstance(size, int):
        raise UnsupportedError(
            "topk: TensorRT's limit for an axis whose size is known only at run time",
            expected=f"k <= {LIMIT}",
            got=k,
            fix="give this axis a fixed size in network.input(...)",
        )
    last = x.ndim - 1
    values, indices = _sorted(transpose(x, axis, last), largest, stable)
    values, indices = _first(values, k, last), _first(indices, k, last)
    return transpose(values, axis, last), transpose(indices, axis, last)


def _first(x: Tensor, k: Any, axis: int) -> Tensor:
    sizes = [k if i == axis else size for i, size in enumerate(x.shape)]
    return x if same_sizes(sizes, x.shape) else slice_(x, [0] * x.ndim, sizes, [1] * x.ndim)


def _layer(x: Tensor, k: Any, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    network = x.network
    dims = [k if i == axis else size for i, size in enumerate(x.shape)]
    operation = network.trt.TopKOperation.MAX if largest else network.trt.TopKOperation.MIN
    inputs = {}
    if not isinstance(k, int):
        inputs[1] = remove_axes(network.sizes([k]), [0]).to(int32)
    fixed = k if isinstance(k, int) else 1
    values, indices = network.emit_all(
        "topk", "add_topk", x, operation, fixed, 1 << axis, dims=[dims, dims], inputs=inputs
    )
    return values, indices.to(int64)


def _in_order(x: Tensor, values: Tensor, indices: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Sorted elements with equal ones in the order of their positions: sorted again by the number
    of different elements before them and their position, which no two share."""
    size = x.shape[axis]
    if isinstance(size, int) and size < 2:
        return values, indices
    sizes = [n - 1 if i == axis else n for i, n in enumerate(x.shape)]
    starts, ones = [int(i == axis) for i in range(x.ndim)], [1] * x.ndim
    after = slice_(values, starts, sizes, ones)
    before = slice_(values, [0] * x.ndim, sizes, ones)
    changes = ne(after, before)
    if x.dtype.is_floating_point:  # NaNs are equal here
        changes = logical_and(changes, logical_not(logical_and(_is_nan(after), _is_nan(before))))
    starts = [-int(i == axis) for i in range(x.ndim)]
    marks = slice_(changes.int(), starts, x.shape, ones, mode="FILL", fill=0)
    groups = cumsum(marks, axis)
    keys = add(mul(groups, as_tensor(size, groups)), indices)
    _, order = _layer(keys, size, axis, largest=False)
    return gather_elements(values, axis, order), gather_elements(indices, axis, order)


def _is_nan(x: Tensor) -> Tensor:
    return ne(x, x)


def _sorted(x: Tensor, largest: bool, stable: bool) -> tuple[Tensor, Tensor]:
    """All of the last axis in order, and the positions."""
    size, axis = x.shape[-1], x.ndim - 1
    count = -(-size // LIMIT)
    if count * size > LARGEST:
        raise UnsupportedError(
            "topk: the axis is too long to be sorted",
            expected=f"at most about {int((LARGEST * LIMIT) ** 0.5)} elements",
            got=size,
        )
    lengths = [size // count + (i < size % count) for i in range(count)]
    starts = [sum(lengths[:i]) for i in range(count)]
    pieces = []
    for start, length in zip(starts, lengths, strict=True):
        piece = slice_(x, [0] * axis + [start], [*x.shape[:-1], length], [1] * x.ndim)
        values, indices = top_k(piece, length, axis, largest, stable)
        pieces.append((values, add(indices, start)))
    values, indices = (cat([piece[i] for piece in pieces], axis) for i in (0, 1))
    ranks = _ranks([piece[0] for piece in pieces], lengths, values, largest)
    return _written(ranks, values), _written(ranks, indices)


def _written(ranks: Tensor, x: Tensor) -> Tensor:
    mode = x.network.trt.ScatterMode.ELEMENT
    return x.network.emit(
        "scatter", "add_scatter", x, ranks, x, mode, dims=x.shape, axis=x.ndim - 1
    )


def _ranks(pieces: list[Tensor], lengths: list[int], values: Tensor, largest: bool) -> Tensor:
    """The position in the whole of each of `values`, the sorted `pieces` joined."""
    network, rank = values.network, values.ndim + 1  # pieces along a new axis before the last
    longest, count, size = max(lengths), len(lengths), sum(lengths)
    table = cat([insert_axes(_padded(piece, longest), [rank - 2]) for piece in pieces], rank - 2)
    wanted = insert_axes(values, [rank - 2])
    own = np.repeat(np.arange(count), lengths)
    others = np.arange(count)[:, None]
    shape = (1,) * (rank - 2) + (count, size)
    earlier = network.constant((others < own).reshape(shape))
    limits = network.constant(np.reshape(lengths, (*shape[:-1], 1)), int64)
    lead = values.shape[:-1]
    found = expand(network.constant(np.zeros((1,) * rank), int64), *lead, count, size)
    step = 1 << (longest.bit_length() - 1)
    while step:
        tried = add(found, step)
        inside = le(tried, limits)
        at = where(inside, add(tried, -1), network.constant(np.zeros((1,) * rank), int64))
        known = gather_elements(table, rank - 1, at)
        found = where(logical_and(inside, _precedes(known, wanted, earlier, largest)), tried, found)
        step //= 2
    mine = network.constant((others == own).reshape(shape))
    places = np.concatenate([np.arange(length) for length in lengths]).reshape(
        (*shape[:-2], 1, size)
    )
    found = where(mine, network.constant(places, int64), found)
    operation = network.trt.ReduceOperation.SUM
    return network.emit(
        "reduce", "add_reduce", found, operation, 1 << (rank - 2), False, dims=values.shape
    )


def _padded(piece: Tensor, length: int) -> Tensor:
    sizes = [*piece.shape[:-1], length]
    if same_sizes(sizes, piece.shape):
        return piece
    return slice_(piece, [0] * piece.ndim, sizes, [1] * piece.ndim, mode="FILL", fill=0)


def _precedes(known: Tensor, wanted: Tensor, earlier: Tensor, largest: bool) -> Tensor:
    """Whether `known` comes before `wanted`; of equal elements those of `earlier` pieces do."""
    before = gt(known, wanted) if largest else lt(known, wanted)
    same = eq(known, wanted)
    if known.dtype.is_floating_point:  # NaN is the largest
        nan, wanted_nan = _is_nan(known), _is_nan(wanted)
        first, second = (nan, wanted_nan) if largest else (wanted_nan, nan)
        before = logical_or(before, logical_and(first, logical_not(second)))
        same = logical_or(same, logical_and(nan, wanted_nan))
    return logical_or(before, logical_and(same, earlier))
