"""Positions along axes: constants and tensors that hold indices, and the layers that pick by them.

An index that is known while the network is defined (a list, an array, a Parameter, a real torch
tensor) is checked and counted from the front at once; one that the network computes is counted from
the front by layers, and nobody checks that it lies inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.names import parameter_name
from trtnet.ops.elementwise import add, lt, where
from trtnet.ops.operands import as_tensor
from trtnet.ops.shape import reshape, slice_
from trtnet.tensor import Dim, Parameter, Tensor, same_sizes
from trtnet.tensor.emitter import Emitter

Index = Tensor | np.ndarray
"""Positions: a tensor of the network, or an array known while the network is defined."""


def host_array(value: Any, network: Emitter[Tensor], op: str) -> np.ndarray:
    """`value`, anything but a Tensor, as an array: a number, list, array, Parameter, torch tensor.

    Raises:
        UnsupportedError: no array can be made of it.
    """
    if isinstance(value, Parameter):
        value = value.require(parameter_name(network.path, "index"))
        network.ledger.decided_by(value)
        return np.asarray(value)
    if hasattr(value, "detach"):  # a torch.Tensor, known by what it can do: torch is not imported
        value = value.detach().cpu().resolve_conj().resolve_neg().numpy()
    if isinstance(value, (list, tuple)) and _holds(value, (Tensor, Dim)):
        raise UnsupportedError(
            f"{op}: a list that holds tensors or sizes known only at run time",
            fix="make one tensor of them with trtnet.stack",
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"{op}: cannot make an array of this", got=repr(error)) from error
    if array.dtype.kind not in "biuf":
        raise UnsupportedError(f"{op}: not an index", got=f"{type(value).__name__}: {value!r}")
    network.ledger.decided_by(array)
    return array


def _holds(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds(item, kinds) for item in value)
    return isinstance(value, kinds)


def as_index(value: Any, network: Emitter[Tensor], op: str) -> Index:
    """`value` as a Tensor (int32 or int64) or an int64 array.

    Raises:
        UnsupportedError: elements of another type.
    """
    if isinstance(value, Tensor):
        if value.dtype not in (int32, int64):
            raise UnsupportedError(
                f"{op}: an index tensor must be int32 or int64", got=value.dtype, fix="x.long()"
            )
        return value
    array = host_array(value, network, op)
    if array.dtype.kind not in "iu" and array.size:
        raise UnsupportedError(f"{op}: an index must hold integers", got=str(array.dtype))
    return array.astype(np.int64)


def from_front(index: Index, size: Any, op: str, axis: int, negative: bool = True) -> Index:
    """`index` without negative positions, for an axis of `size`.

    Args:
        negative: whether negative positions count from the end. A constant that has some is
            refused where they do not; a computed index is taken as it is.

    Raises:
        ShapeError: a constant index outside the axis.
    """
    if isinstance(index, Tensor):
        if not negative:
            return index
        return where(lt(index, 0), add(index, size), index)
    low, high = (int(index.min()), int(index.max())) if index.size else (0, 0)
    least = 0 if not negative else -size if isinstance(size, int) else low
    if index.size and (low < least or (isinstance(size, int) and high >= size)):
        raise ShapeError(
            f"{op}: index out of range",
            expected=f"{least} to {size - 1} on axis {axis}",
            got=low if low < least else high,
        )
    return np.where(index < 0, index + size, index) if isinstance(size, int) else index


def to_front(index: Index, size: Any, network: Emitter[Tensor]) -> Tensor:
    """`index`, of :func:`from_front`, as a Tensor: what a constant counts from the end of an axis
    of a size known only at run time is counted from the front by layers."""
    if isinstance(index, Tensor):
        return index
    tensor = network.constant(index, int64)
    if not index.size or index.min() >= 0:
        return tensor
    return where(network.constant(index < 0), add(tensor, as_tensor(size, tensor)), tensor)


def index_tensor(
    value: Any, size: Any, network: Emitter[Tensor], op: str, axis: int, negative: bool = False
) -> Tensor:
    """:func:`as_index`, :func:`from_front` and :func:`to_front` in one."""
    index = from_front(as_index(value, network, op), size, op, axis, negative)
    return to_front(index, size, network)


def iota(network: Emitter[Tensor], count: Any) -> Tensor:
    """``0, 1, ..., count - 1`` as int64; `count` may be a Dim."""
    if isinstance(count, int):
        return network.constant(np.arange(count, dtype=np.int64), int64)
    trt = network.trt
    return network.emit(
        "iota",
        "add_fill",
        (0,),
        trt.FillOperation.LINSPACE,
        trt.DataType.INT64,
        dims=[count],
        inputs={
            0: network.sizes([count]),
            1: network.constant(0, int64),
            2: network.constant([1], int64),
        },
    )


def along(vector: Tensor, axis: int, rank: int) -> Tensor:
    """A 1-D tensor as one of `rank` axes, of size one but for `axis`."""
    return reshape(vector, *(vector.shape[0] if i == axis else 1 for i in range(rank)))


def take_slices(input: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Replaces axis `axis` by the axes of `indices`: ``result[.., i.., ..] =
    input[.., indices[i..], ..]``. Indices are not negative."""
    dims = [*input.shape[:axis], *indices.shape, *input.shape[axis + 1 :]]
    return input.network.emit("gather", "add_gather", input, indices, axis, dims=dims)


def empty(like: Tensor, shape: Sequence[Any]) -> Tensor:
    """A tensor of `shape`, in which one size is 0."""
    x = reshape(like, 1) if not like.ndim else like
    none = slice_(x, [0] * x.ndim, [0, *x.shape[1:]], [1] * x.ndim)
    return none if same_sizes(shape, none.shape) else reshape(none, *shape)


def is_mask(value: Tensor | np.ndarray) -> bool:
    """Whether an index is a mask: bool, or uint8, which PyTorch takes as bool."""
    if isinstance(value, Tensor):
        return value.dtype in (DType.BOOL, DType.UINT8)
    return value.dtype in (np.bool_, np.uint8)
