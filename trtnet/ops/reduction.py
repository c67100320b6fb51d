"""Sums, means, products and extremes along axes; whether any or all elements are true."""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

from trtnet.dtypes import DType, int32, int64
from trtnet.errors import UnsupportedError
from trtnet.ops.division import div
from trtnet.ops.elementwise import add, exp, log, logical_not, ne, sub, where
from trtnet.ops.floats import isinf, isnan
from trtnet.ops.operands import mask, normalize_axes
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import floating, numpy_names, widened
from trtnet.tensor import Tensor

_LONG = 2048  # in FP16, 2048 + 1 rounds to 2048
_SMALL_TYPES = (DType.BOOL, DType.UINT8)  # TensorRT reduces neither


class MinMax(NamedTuple):
    """The smallest and the largest values, as ``torch.return_types.aminmax``."""

    min: Tensor
    max: Tensor


def reduction_axes(dim: Any, x: Tensor, op: str) -> list[int]:
    """The axes that `dim` names; of a 0-d tensor none, whichever PyTorch allows there."""
    if not x.ndim:
        normalize_axes(dim, 1, op)
        return []
    return normalize_axes(dim, x.ndim, op)


def reduce(op: str, kind: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """One layer that reduces over `dim`; a 0-d tensor reduces to itself."""
    axes = reduction_axes(dim, x, op)
    if not axes:
        return x
    dims = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    if not keepdim:
        dims = [size for axis, size in enumerate(x.shape) if axis not in axes]
    operation = getattr(x.network.trt.ReduceOperation, kind)
    return x.network.emit(op, "add_reduce", x, operation, mask(axes), keepdim, dims=dims)


def _typed(x: Tensor, dtype: object) -> Tensor:
    """`x` as `dtype`; without one, integers and booleans summed up become int64, as in PyTorch."""
    if dtype is not None:
        return x.to(dtype)
    return x if x.dtype.is_floating_point else x.to(int64)


def _sum_up(op: str, kind: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """:func:`reduce`, half precision in the policy's type for reductions."""
    return x.network.casts.around("reduction", x, lambda wide: reduce(op, kind, wide, dim, keepdim))


@operator
@numpy_names
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    """Sum over `dim`, of the values as `dtype`; without it, integers and booleans give int64."""
    return _sum_up("sum", "SUM", _typed(input, dtype), dim, keepdim)


@operator
@numpy_names
def nansum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: object = None
) -> Tensor:
    """:func:`sum` with 0 for NaN."""
    return sum(_without_nan(input), dim, keepdim, dtype=dtype)


def _without_nan(x: Tensor) -> Tensor:
    return where(isnan(x), 0.0, x) if x.dtype.is_floating_point else x


@operator
@numpy_names
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    """Mean over `dim`, of the values as `dtype`.

    Raises:
        UnsupportedError: integers without a floating-point `dtype`, as in PyTorch.
    """
    x = input if dtype is None else input.to(dtype)
    if not x.dtype.is_floating_point:
        raise UnsupportedError(
            "mean: needs a floating-point tensor",
            got=x.dtype,
            fix="x.float().mean()",
        )
    axes = reduction_axes(dim, x, "mean")
    pooled = x.network.quantizer.pooled(x, axes)
    sizes = [x.shape[axis] for axis in axes]
    if pooled is not x:  # TensorRT sums INT8 up in INT32
        return reduce("mean", "AVG", pooled, dim, keepdim)
    if builtins.all(isinstance(size, int) for size in sizes) and math.prod(sizes) <= _LONG:
        return reduce("mean", "AVG", x, dim, keepdim)
    return _sum_up("mean", "AVG", x, dim, keepdim)


@operator
@numpy_names
def nanmean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: object = None
) -> Tensor:
    """:func:`mean` of the elements that are not NaN."""
    x = input if dtype is None else input.to(dtype)
    if not x.dtype.is_floating_point:
        return mean(x, dim, keepdim)  # which refuses it

    def compute(wide: Tensor) -> Tensor:
        count = sum(logical_not(isnan(wide)), dim, keepdim)
        return div(sum(_without_nan(wide), dim, keepdim), count.to(wide.dtype))

    return widened(compute, x)


@operator
@numpy_names
def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
    """Product over `dim`, of the values as `dtype`; integers and booleans give int64."""
    return _sum_up("prod", "PROD", _typed(input, dtype), dim, keepdim)


@operator
@numpy_names
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest value over `dim`."""
    return _extreme("amax", "MAX", input, dim, keepdim)


@operator
@numpy_names
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest value over `dim`."""
    return _extreme("amin", "MIN", input, dim, keepdim)


def _extreme(op: str, kind: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    if x.dtype in _SMALL_TYPES:
        return reduce(op, kind, x.to(int32), dim, keepdim).to(x.dtype)
    return reduce(op, kind, x, dim, keepdim)


@operator
@numpy_names
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest value over axis `dim`, or over all: ``(min, max)``."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


@operator
@numpy_names
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether an element over `dim` is true, as bool; numbers other than zero are."""
    return _truth("any", "MAX", input, dim, keepdim)


@operator
@numpy_names
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements over `dim` are true, as bool; numbers other than zero are."""
    return _truth("all", "MIN", input, dim, keepdim)


def _truth(op: str, kind: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    flags = x if x.dtype is DType.BOOL else ne(x, 0)
    found = reduce(op, kind, flags.to(int32), dim, keepdim).to(DType.BOOL)
    return found.to(x.dtype) if x.dtype is DType.UINT8 else found  # as PyTorch


@operator
@numpy_names
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements over `dim` are not zero, as int64."""
    return sum(input if input.dtype is DType.BOOL else ne(input, 0), dim)


@operator
@numpy_names
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(input)))`` over `dim` without overflow; half precision in the policy's type
    for reductions."""

    def compute(x: Tensor) -> Tensor:
        peak = amax(x, dim, keepdim=True)
        peak = where(isinf(peak), 0.0, peak)
        total = log(reduce("logsumexp", "SUM", exp(sub(x, peak)), dim, keepdim))
        if not keepdim:  # the largest value of one element is itself
            peak = reduce("logsumexp", "MAX", peak, dim, keepdim)
        return add(total, peak)

    x = floating(input)
    return x.network.casts.around("reduction", x, compute)
