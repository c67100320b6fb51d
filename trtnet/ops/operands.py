"""What the operations share: operands of one rank and type, and axes."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, float32, int64, promote
from trtnet.errors import ShapeError
from trtnet.tensor import Dim, Parameter, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.quotient import Quotient


def is_size(value: object) -> bool:
    """Whether `value` is one axis's size: an int or a Dim."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_int or isinstance(value, Dim)


def as_tensor(value: Any, like: Tensor, align: bool = True) -> Tensor:
    """`value` (number, Dim, Quotient of Dims, Parameter or array) as a tensor next to `like`, typed
    as PyTorch types it: a number takes the tensor's dtype unless only it is floating point;
    floating-point arrays take the dtype of a floating-point tensor. With `align`, numbers and
    arrays get the rank of `like` at once, so that broadcasting costs no layer."""
    if isinstance(value, Tensor):
        return value
    network = like.network
    if isinstance(value, Dim):
        return _size_tensor(network, value)
    if isinstance(value, Quotient):
        top, bottom = (
            network.cast(_size_tensor(network, part), float32) for part in (value.top, value.bottom)
        )
        division = network.trt.ElementWiseOperation.DIV
        quotient = network.emit("size", "add_elementwise", top, bottom, division, dims=())
        return network.cast(quotient, like.dtype) if like.dtype.is_floating_point else quotient
    if isinstance(value, numbers.Number):
        floating = isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)
        follows = like.dtype.is_floating_point or (like.dtype is not DType.BOOL and not floating)
        array = np.asarray(value)
        dtype: DType | None = like.dtype if follows else _default_type(value)
    else:
        array = value.require(network.path) if isinstance(value, Parameter) else np.asarray(value)
        both_float = array.dtype.kind == "f" and like.dtype.is_floating_point
        dtype = like.dtype if both_float else None  # None: the array's own
    if align and array.ndim < like.ndim:
        array = array.reshape((1,) * (like.ndim - array.ndim) + array.shape)
    return network.constant(array, dtype)


def _size_tensor(network: Emitter[Tensor], size: Any) -> Tensor:
    """An int or a Dim as an int64 tensor without axes."""
    return network.emit("size", "add_squeeze", network.sizes([size]), _axes(network, [0]))


def _default_type(value: Any) -> DType:
    if isinstance(value, bool):
        return DType.BOOL
    return int64 if isinstance(value, numbers.Integral) else float32


def same_type(*values: Any, align: bool = True) -> list[Tensor]:
    """Tensors promoted to one dtype; see :func:`as_tensor` for `align`."""
    first = next((value for value in values if isinstance(value, Tensor)), None)
    if first is None:
        raise ShapeError("needs at least one trtnet.Tensor", got=str([type(v) for v in values]))
    tensors = [as_tensor(value, first, align) for value in values]
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = promote(dtype, tensor.dtype)
    network = first.network
    dtype = network.casts.meet(tensors, dtype)
    return [network.cast(tensor, dtype) for tensor in tensors]


def broadcast_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one rank: axes of size one are put in front, as PyTorch broadcasts."""
    rank = max(tensor.ndim for tensor in tensors)
    return [
        tensor if tensor.ndim == rank else insert_axes(tensor, range(rank - tensor.ndim))
        for tensor in tensors
    ]


def broadcast_dims(shapes: Sequence[Sequence[Any]]) -> list[Any]:
    """Sizes of the broadcast of `shapes`, which have one rank; -1 where it is not known."""
    result: list[Any] = []
    for sizes in zip(*shapes, strict=True):
        fixed = [size for size in sizes if isinstance(size, int) and size != 1]
        unknown = {size for size in sizes if not isinstance(size, int)}
        if fixed:
            result.append(fixed[0])
        elif len(unknown) > 1:  # one of them may turn out to be 1
            result.append(-1)
        else:
            result.append(unknown.pop() if unknown else 1)
    return result


def insert_axes(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """`tensor` with axes of size one, at positions `axes` of the result (ascending)."""
    dims = list(tensor.shape)
    for axis in axes:
        dims.insert(axis, 1)
    return tensor.network.emit(
        "unsqueeze", "add_unsqueeze", tensor, _axes(tensor.network, axes), dims=dims
    )


def remove_axes(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """`tensor` without the axes `axes`, which have size one."""
    dims = [size for axis, size in enumerate(tensor.shape) if axis not in axes]
    return tensor.network.emit(
        "squeeze", "add_squeeze", tensor, _axes(tensor.network, axes), dims=dims
    )


def _axes(network: Emitter[Tensor], axes: Sequence[int]) -> Tensor:
    return network.constant(list(axes), int64)


def normalize_axis(axis: Any, rank: int, op: str) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: outside ``[-rank, rank)``.
    """
    if not isinstance(axis, numbers.Integral) or not -rank <= int(axis) < rank:
        raise ShapeError(
            f"{op}: dim is out of range",
            expected=f"an int from {-rank} to {rank - 1}",
            got=axis,
        )
    return int(axis) % rank


def normalize_axes(axes: Any, rank: int, op: str) -> list[int]:
    """Axes counted from the front, ascending; ``None`` or ``()`` means all of them."""
    if axes is None or (isinstance(axes, (tuple, list)) and not axes):
        return list(range(rank))
    listed = axes if isinstance(axes, (tuple, list)) else [axes]
    found = [normalize_axis(axis, rank, op) for axis in listed]
    if len(set(found)) != len(found):
        raise ShapeError(f"{op}: a dim is given twice", got=axes)
    return sorted(found)


def mask(axes: Sequence[int]) -> int:
    """TensorRT's bit mask for a set of axes."""
    return sum(1 << axis for axis in axes)
