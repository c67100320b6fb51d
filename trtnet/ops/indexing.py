"""Picking elements by index tensors: gather, index_select, take, select, masked_select."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.bounds import position
from trtnet.ops.getitem import getitem
from trtnet.ops.nonzero import nonzero_rows
from trtnet.ops.operands import broadcast_dims, insert_axes, is_empty, normalize_axis, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.positions import (
    as_index,
    empty,
    from_front,
    host_array,
    index_tensor,
    take_slices,
    to_front,
)
from trtnet.ops.shape import expand, flatten, reshape, slice_
from trtnet.tensor import Tensor, same_sizes


@operator
def index_select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The slices of axis `dim` at the positions in `index`, which has one axis or none.

    Raises:
        ShapeError: `index` has more axes, or a constant one reaches outside.
    """
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(dim, x.ndim, "index_select")
    found = from_front(
        as_index(index, x.network, "index_select"), x.shape[axis], "index_select", axis, False
    )
    if found.ndim > 1:
        raise ShapeError("index_select: index must be 1-D", got=tuple(found.shape))
    found = reshape(found, 1) if isinstance(found, Tensor) and not found.ndim else found
    if isinstance(found, np.ndarray) and not found.size:
        return empty(x, [0 if i == axis else size for i, size in enumerate(x.shape)])
    position = to_front(found.reshape(-1) if isinstance(found, np.ndarray) else found, 0, x.network)
    result = take_slices(x, position, axis)
    return result if input.ndim else reshape(result, ())


@operator
def gather(input: Tensor, dim: int, index: Any, *, sparse_grad: bool = False) -> Tensor:
    """``result[i][j][k] = input[index[i][j][k]][j][k]`` for ``dim=0``, and so on. Sizes of
    `index` on other axes may be smaller than those of `input`. `sparse_grad` matters in training
    only.

    Raises:
        ShapeError: another rank, larger sizes on other axes, or a constant index that reaches
            outside.
    """
    network = input.network
    axis = normalize_axis(dim, max(input.ndim, 1), "gather")
    x = input if input.ndim else reshape(input, 1)
    found = from_front(as_index(index, network, "gather"), x.shape[axis], "gather", axis, False)
    if max(found.ndim, 1) != x.ndim:
        raise ShapeError(
            "gather: index and input must have one rank",
            got=tuple(found.shape),
            expected=f"rank {x.ndim}",
        )
    if is_empty(found.shape):
        return empty(x, found.shape)
    at = to_front(found, x.shape[axis], network)
    result = gather_elements(x, axis, at if at.ndim else reshape(at, 1))
    return result if found.ndim else reshape(result, ())


def gather_elements(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """:func:`gather` for an `index` that is a tensor of the network, of the rank of `x`."""
    network = x.network
    sizes = [
        have if i == axis else want
        for i, (have, want) in enumerate(zip(x.shape, index.shape, strict=True))
    ]
    for i, (have, want) in enumerate(zip(x.shape, sizes, strict=True)):
        if isinstance(have, int) and isinstance(want, int) and want > have:
            raise ShapeError(
                "gather: index is larger than input",
                expected=f"at most {have} on axis {i}",
                got=want,
            )
    if not same_sizes(sizes, x.shape):
        x = slice_(x, [0] * x.ndim, sizes, [1] * x.ndim)
    mode = network.trt.GatherMode.ELEMENT
    return network.emit("gather", "add_gather_v2", x, index, mode, dims=index.shape, axis=axis)


@operator
def take(input: Tensor, index: Any) -> Tensor:
    """The elements of `input`, flattened, at the positions `index`; negative ones count from the
    end.

    Raises:
        ShapeError: a constant index that reaches outside.
    """
    flat = flatten(input)
    found = from_front(as_index(index, input.network, "take"), flat.shape[0], "take", 0)
    if is_empty(found.shape):
        return empty(flat, found.shape)
    return take_slices(flat, to_front(found, flat.shape[0], input.network), 0)


@operator
def take_along_dim(input: Tensor, indices: Any, dim: int | None = None) -> Tensor:
    """:func:`gather` along `dim` with `input` and `indices` broadcast to each other on the other
    axes; without `dim`, of both flattened.

    Raises:
        ShapeError: as :func:`gather`.
    """
    network = input.network
    if dim is None:
        index = index_tensor(indices, None, network, "take_along_dim", 0)
        return gather(flatten(input), 0, flatten(index))  # type: ignore[no-any-return]
    axis = normalize_axis(dim, input.ndim, "take_along_dim")
    index = index_tensor(indices, input.shape[axis], network, "take_along_dim", axis)
    if index.ndim != input.ndim:
        raise ShapeError(
            "take_along_dim: indices and input must have one rank",
            got=index.shape,
            expected=f"rank {input.ndim}",
        )
    sizes = broadcast_dims([input.shape, index.shape])
    if any(isinstance(size, int) and size < 0 for i, size in enumerate(sizes) if i != axis):
        raise ShapeError(
            "take_along_dim: sizes known only at run time do not tell how they broadcast",
            got=f"{input.shape} and {index.shape}",
            fix="expand both first",
        )
    index = expand(index, *(index.shape[i] if i == axis else n for i, n in enumerate(sizes)))
    wide = expand(input, *(input.shape[i] if i == axis else n for i, n in enumerate(sizes)))
    return gather_elements(wide, axis, index)


@operator
def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """``input[:, ..., index]``: one position of axis `dim`, without that axis.

    Raises:
        ShapeError: an int outside the axis.
    """
    axis = normalize_axis(dim, input.ndim, "select")
    if isinstance(index, Tensor):
        return getitem(input, (slice(None),) * axis + (reshape(index, ()),))  # type: ignore[no-any-return]
    starts: list[Any] = [0] * input.ndim
    starts[axis] = position(index, input.shape[axis], axis)
    sizes = [1 if i == axis else size for i, size in enumerate(input.shape)]
    return remove_axes(slice_(input, starts, sizes, [1] * input.ndim), [axis])


@operator
def masked_select(input: Tensor, mask: Any) -> Tensor:
    """The elements of `input` where `mask` (bool) holds, as one vector; both broadcast.

    Raises:
        UnsupportedError: a computed mask where the backend has no NonZero layer (TensorRT-RTX).
    """
    network = input.network
    held = mask if isinstance(mask, Tensor) else host_array(mask, network, "masked_select")
    rank = max(input.ndim, held.ndim)
    x = insert_axes(input, range(rank - input.ndim)) if input.ndim < rank else input
    shape = broadcast_dims([x.shape, (1,) * (rank - held.ndim) + tuple(held.shape)])
    if any(isinstance(size, int) and size < 0 for size in shape):
        raise ShapeError(
            "masked_select: sizes known only at run time do not tell how they broadcast",
            got=f"{input.shape} and {held.shape}",
            fix="expand both first",
        )
    x = expand(x, *shape)
    if isinstance(held, np.ndarray) and all(isinstance(size, int) for size in shape):
        held = np.broadcast_to(held, shape)
        return take(x, np.flatnonzero(held))  # type: ignore[no-any-return]
    if isinstance(held, np.ndarray):
        held = network.constant(held)
    held = insert_axes(held, range(rank - held.ndim)) if held.ndim < rank else held
    flat = flatten(expand(held, *shape))
    (rows,) = nonzero_rows(flat, network, "masked_select")
    if not isinstance(rows, Tensor):
        raise UnsupportedError("masked_select: not a mask", got=type(mask).__name__)
    return take_slices(flatten(x), rows, 0)
