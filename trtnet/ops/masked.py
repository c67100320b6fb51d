"""Values written where a mask holds."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.cumulative import cumsum
from trtnet.ops.elementwise import clamp, where
from trtnet.ops.operands import broadcast_dims, broadcast_ranks, within
from trtnet.ops.operator import operator
from trtnet.ops.positions import host_array, take_slices
from trtnet.ops.shape import expand, flatten, reshape
from trtnet.tensor import Dim, Parameter, Tensor

_HALF_MAX = float(np.finfo(np.float16).max)


@operator
def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """`value` where `mask` (bool) holds, `input` elsewhere; both broadcast, and the result has
    the type of `input`.

    Args:
        value: a number, or a tensor without axes. A finite number beyond float16, such as the
            -1e9 of attention masks, becomes its largest or lowest where `input` is float16.

    Raises:
        UnsupportedError: a mask that is not bool; a value that the integer type cannot hold.
        ShapeError: a value with axes.
    """
    return where(as_mask("masked_fill", mask, input), scalar("masked_fill", value, input), input)


@operator
def masked_scatter(input: Tensor, mask: Any, source: Any) -> Tensor:
    """`input` with the elements of `source`, in order, where `mask` (bool) holds. `source` has at
    least as many elements as the mask selects, which nobody checks where the mask is computed.

    Raises:
        UnsupportedError: a mask that is not bool, a source of another type.
    """
    network = input.network
    held = as_mask("masked_scatter", mask, input)
    taken = flatten(source_like("masked_scatter", source, input))
    held, x = broadcast_ranks([held, input])
    sizes = broadcast_dims([held.shape, x.shape])
    if any(isinstance(size, int) and size < 0 for size in sizes):
        raise ShapeError(
            "masked_scatter: sizes known only at run time do not tell how they broadcast",
            got=f"{held.shape} and {x.shape}",
            fix="expand both first",
        )
    chosen = expand(held, *sizes)
    order = reshape(cumsum(flatten(chosen), 0) - 1, *sizes)
    order = clamp(order, min=network.constant(np.zeros((1,) * order.ndim), int64))
    return where(chosen, take_slices(taken, order, 0), x)


def as_mask(op: str, mask: Any, like: Tensor) -> Tensor:
    """`mask` as a bool tensor beside `like`.

    Raises:
        UnsupportedError: it is not bool.
    """
    if not isinstance(mask, Tensor):
        array = host_array(mask, like.network, op)
        if array.dtype != np.bool_:
            raise UnsupportedError(f"{op}: the mask must be bool", got=str(array.dtype))
        shape = (1,) * (like.ndim - array.ndim) + array.shape
        return like.network.constant(array.reshape(shape))
    if mask.dtype is not DType.BOOL:
        raise UnsupportedError(
            f"{op}: the mask must be bool", got=mask.dtype, fix="mask.bool(), or compare first"
        )
    return mask


def scalar(op: str, value: Any, like: Tensor) -> Tensor:
    """A number, or a tensor without axes, in the type of `like`.

    Raises:
        ShapeError: a tensor or array with axes.
        UnsupportedError: a number that the type cannot hold.
    """
    if isinstance(value, Tensor):
        if value.ndim:
            raise ShapeError(
                f"{op}: the value must be a number or a tensor without axes", got=value.shape
            )
        return value.network.cast(value, like.dtype)
    if isinstance(value, Dim):
        size = like.network.sizes([value])
        return reshape(size, *([1] * like.ndim)).to(like.dtype)
    array = host_array(value, like.network, op)
    if array.ndim:
        raise ShapeError(
            f"{op}: the value must be a number or a tensor without axes", got=array.shape
        )
    dtype = _checked(op, array, like)
    if dtype is DType.FLOAT16 and np.isfinite(array):  # chosen by the policy, not by the model
        array = np.clip(array.astype(np.float64), -_HALF_MAX, _HALF_MAX)
    return like.network.constant(array.reshape((1,) * like.ndim), dtype)


def _checked(op: str, array: np.ndarray, like: Tensor) -> DType:
    """The type of `like`, which must hold the one value of `array`."""
    dtype, number = like.dtype, array.item()
    if dtype.element.kind == "integer":
        limits = np.iinfo(dtype.value)
        is_whole = isinstance(number, numbers.Integral) or float(number).is_integer()
        if not is_whole or not limits.min <= number <= limits.max:
            raise UnsupportedError(f"{op}: {dtype} cannot hold the value", got=number)
    return dtype


def source_like(op: str, source: Any, like: Tensor) -> Tensor:
    """`source` as a tensor of the type of `like`: constants are converted, and floating-point
    tensors, whose type the policy chose.

    Raises:
        UnsupportedError: a tensor of another kind of type, as in PyTorch.
    """
    network = like.network
    if isinstance(source, Dim):
        return scalar(op, source, like)
    if not isinstance(source, Tensor):
        array = source if isinstance(source, Parameter) else host_array(source, network, op)
        if isinstance(array, np.ndarray):
            array = within(array, like.dtype)
        return network.constant(array, like.dtype)
    if source.dtype is like.dtype:
        return source
    if source.dtype.is_floating_point and like.dtype.is_floating_point:
        return network.cast(source, like.dtype)
    raise UnsupportedError(
        f"{op}: source and input must have one type",
        got=f"{source.dtype} and {like.dtype}",
        fix="cast one of them: source.to(input.dtype)",
    )
