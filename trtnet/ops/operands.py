"""What the operations share: operands of one rank and type, and axes."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from trtnet.dtypes import DType, float32, int32, int64, promote
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.tensor import Dim, Parameter, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.quotient import Quotient
from trtnet.values import values_of


def whole(value: Any) -> Any:
    """The int that a real tensor or array of one integer holds, which PyTorch takes for a size or
    an axis; anything else as it is."""
    if isinstance(value, np.ndarray) or hasattr(value, "resolve_conj"):  # a torch.Tensor
        integral = str(value.dtype).removeprefix("torch.").startswith(("int", "uint"))
        return int(value.item()) if integral and math.prod(value.shape) == 1 else value
    return value


def is_size(value: object) -> bool:
    """Whether `value` is one axis's size: an int or a Dim."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_int or isinstance(value, Dim)


def is_empty(sizes: Sequence[Any]) -> bool:
    """Whether one of `sizes` is certainly 0."""
    return any(isinstance(size, int) and size == 0 for size in sizes)


def as_tensor(value: Any, like: Tensor, align: bool = True) -> Tensor:
    """`value` as a tensor next to `like`: a number, a Dim, a Quotient of Dims, a Parameter, or
    whatever :func:`trtnet.values.values_of` reads.

    It is typed as PyTorch types it: numbers and values of rank 0 take the tensor's dtype unless
    their kind (bool, integer, floating point) is the higher one; floating-point arrays take the
    dtype of a floating-point tensor, whose range they are kept in (:func:`within`). With `align`,
    they get the rank of `like` at once, so that broadcasting costs no layer.
    """
    if isinstance(value, Tensor):
        return value
    network = like.network
    if isinstance(value, Dim):
        return _size_tensor(network, value)
    if isinstance(value, Quotient):
        return _quotient_tensor(value, like)
    found = values_of(value.require(network.path) if isinstance(value, Parameter) else value)
    array, own = found.array, None if found.dtype == "float64" else found.dtype
    dtype = like.dtype if _follows(array, like.dtype) else _constant_type(own, like.dtype)
    if dtype is DType.UINT8:
        raise no_uint8("arithmetic")
    if align and array.ndim < like.ndim:
        array = array.reshape((1,) * (like.ndim - array.ndim) + array.shape)
    if isinstance(dtype, DType):
        array = within(array, dtype)
    return network.constant(array, dtype)


_NARROW = ("uint8", "int16", "uint16")  # types of arrays that no constant of TensorRT has


def _constant_type(own: str | None, beside: DType) -> Any:
    """The type of a constant whose values had the type `own`: where there are no constants of it,
    that of the tensor beside it, which PyTorch's result has then, if it is a wider one."""
    if own not in _NARROW or beside.element.kind == "boolean" or beside.element.bits < 16:
        return DType.UINT8 if own == "uint8" else own
    return beside


def no_uint8(what: str) -> UnsupportedError:
    """The error for `what` of uint8 tensors, of which PyTorch's results wrap at 256."""
    return UnsupportedError(
        f"{what} of uint8: TensorRT has uint8 in inputs and outputs only",
        fix="convert first: x.int() or x.float()",
    )


FAR = 1e9
"""Finite operands of at least this magnitude stand for "beyond everything", such as the
``torch.finfo(torch.float32).min`` of a mask."""


def within(array: np.ndarray, dtype: DType | str | None) -> np.ndarray:
    """`array` for a tensor of `dtype`: beside float16, which a policy may have chosen, finite
    values of the magnitude :data:`FAR` and beyond become its largest or lowest finite one."""
    if dtype is not DType.FLOAT16 or array.dtype.kind not in "fiu" or not array.size:
        return array
    far = (np.abs(array.astype(np.float64)) >= FAR) & np.isfinite(array)
    if not far.any():
        return array
    largest = float(np.finfo(np.float16).max)
    return np.where(far, np.clip(array.astype(np.float64), -largest, largest), array)


def _size_tensor(network: Emitter[Tensor], size: Any) -> Tensor:
    """An int or a Dim as an int64 tensor without axes."""
    return network.emit("size", "add_squeeze", network.sizes([size]), _axes(network, [0]))


def _quotient_tensor(value: Quotient, like: Tensor) -> Tensor:
    """A Quotient of Dims as a floating-point tensor without axes."""
    network = like.network
    top, bottom = (
        network.cast(_size_tensor(network, part), float32) for part in (value.top, value.bottom)
    )
    division = network.trt.ElementWiseOperation.DIV
    quotient = network.emit("size", "add_elementwise", top, bottom, division, dims=())
    return network.cast(quotient, like.dtype) if like.dtype.is_floating_point else quotient


_KINDS = ("boolean", "integer", "float")  # the later one decides the type of a result


def _follows(array: np.ndarray, dtype: DType) -> bool:
    """Whether `array` takes the type of a tensor of `dtype`."""
    kind = {"b": 0, "f": 2}.get(array.dtype.kind, 1)
    if kind == _KINDS.index("float"):
        return dtype.is_floating_point
    return array.ndim == 0 and kind <= _KINDS.index(dtype.element.kind)


def compared(*values: Any) -> list[Tensor]:
    """:func:`same_type` for results of another type; uint8 tensors as int32."""
    exact = (
        value.to(int32) if isinstance(value, Tensor) and value.dtype is DType.UINT8 else value
        for value in values
    )
    return same_type(*exact)


def same_type(*values: Any, align: bool = True) -> list[Tensor]:
    """Tensors promoted to one dtype; see :func:`as_tensor` for `align`."""
    first = next((value for value in values if isinstance(value, Tensor)), None)
    if first is None:
        raise ShapeError("needs at least one trtnet.Tensor", got=str([type(v) for v in values]))
    tensors = [as_tensor(value, first, align) for value in values]
    network = first.network
    dtype = network.casts.meet(tensors, _common_type(tensors))
    return [network.cast(tensor, dtype) for tensor in tensors]


def _common_type(tensors: Sequence[Tensor]) -> DType:
    """``torch.result_type``: tensors of rank 0 count only where their kind is the higher one."""
    scalars = [tensor.dtype for tensor in tensors if tensor.ndim == 0]
    arrays = [tensor.dtype for tensor in tensors if tensor.ndim]
    dtype = reduce(promote, arrays or scalars)
    for scalar in scalars if arrays else ():
        if _KINDS.index(scalar.element.kind) > _KINDS.index(dtype.element.kind):
            dtype = promote(dtype, scalar)
    return dtype


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
    axis = whole(axis)
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
