"""Sums, means, extremes and their positions along axes."""

from __future__ import annotations

import math
from typing import Any

from trtnet.dtypes import DType, int64
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import maximum, minimum
from trtnet.ops.operands import insert_axes, mask, normalize_axes, normalize_axis, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.shape import flatten
from trtnet.tensor import Tensor

_LONG = 2048  # in FP16, 2048 + 1 rounds to 2048


def _reduce(op: str, kind: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    axes = normalize_axes(dim, x.ndim, op)
    if not axes:  # a 0-d tensor reduces to itself
        return x
    dims = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    if not keepdim:
        dims = [size for axis, size in enumerate(x.shape) if axis not in axes]
    operation = getattr(x.network.trt.ReduceOperation, kind)
    return x.network.emit(op, "add_reduce", x, operation, mask(axes), keepdim, dims=dims)


def _wide(x: Tensor) -> Tensor:
    """Integers and booleans summed up become int64, as in PyTorch."""
    return x if x.dtype.is_floating_point else x.to(int64)


def _sum_up(op: str, kind: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """:func:`_reduce`, half precision in the policy's type for reductions."""
    return x.network.casts.around(
        "reduction", x, lambda wide: _reduce(op, kind, wide, dim, keepdim)
    )


@operator
def sum(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Sum over `dim`; integers and booleans give int64."""
    return _sum_up("sum", "SUM", _wide(input), dim, keepdim)


@operator
def mean(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Mean over `dim`.

    Raises:
        UnsupportedError: integer input, as in PyTorch.
    """
    if not input.dtype.is_floating_point:
        raise UnsupportedError(
            "mean: needs a floating-point tensor",
            got=input.dtype,
            fix="x.float().mean()",
        )
    axes = normalize_axes(dim, input.ndim, "mean")
    pooled = input.network.quantizer.pooled(input, axes)
    sizes = [input.shape[axis] for axis in axes]
    if pooled is not input:  # TensorRT sums INT8 up in INT32
        return _reduce("mean", "AVG", pooled, dim, keepdim)
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) <= _LONG:
        return _reduce("mean", "AVG", input, dim, keepdim)
    return _sum_up("mean", "AVG", input, dim, keepdim)


@operator
def prod(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Product over `dim`; integers and booleans give int64."""
    return _sum_up("prod", "PROD", _wide(input), dim, keepdim)


@operator
def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Largest value over `dim`."""
    return _reduce("amax", "MAX", input, dim, keepdim)


@operator
def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Smallest value over `dim`."""
    return _reduce("amin", "MIN", input, dim, keepdim)


@operator
def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """Without `dim` the largest value; with it ``(values, indices)``. With a tensor in place of
    `dim`, the elementwise maximum, as in PyTorch."""
    return _extreme("MAX", input, dim, keepdim)


@operator
def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """As :func:`max`, for the smallest value."""
    return _extreme("MIN", input, dim, keepdim)


def _extreme(kind: str, x: Tensor, dim: Any, keepdim: bool) -> Any:
    if dim is None:
        return amax(x) if kind == "MAX" else amin(x)
    if isinstance(dim, Tensor):
        return (maximum if kind == "MAX" else minimum)(x, dim)
    axis = normalize_axis(dim, x.ndim, kind.lower())
    found = _topk(x, 1, axis, kind)
    return found if keepdim else tuple(remove_axes(tensor, [axis]) for tensor in found)


@operator
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the largest value as int64; of equal ones the first."""
    return _arg("MAX", input, dim, keepdim)


@operator
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the smallest value as int64; of equal ones the first."""
    return _arg("MIN", input, dim, keepdim)


def _arg(kind: str, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    if dim is None:
        x, dim = flatten(x), 0
    axis = normalize_axis(dim, x.ndim, "arg" + kind.lower())
    indices = _topk(x, 1, axis, kind)[1]
    return indices if keepdim else remove_axes(indices, [axis])


def _topk(x: Tensor, k: int, axis: int, kind: str) -> tuple[Tensor, Tensor]:
    network = x.network
    if x.dtype in (DType.BOOL, DType.INT8, DType.UINT8):
        x = x.to(int64)
    if x.ndim == 1:  # TensorRT wants at least two axes
        values, indices = _topk(insert_axes(x, [0]), k, 1, kind)
        return remove_axes(values, [0]), remove_axes(indices, [0])
    dims = [k if i == axis else size for i, size in enumerate(x.shape)]
    operation = getattr(network.trt.TopKOperation, kind)
    values, indices = network.emit_all(
        "topk", "add_topk", x, operation, k, 1 << axis, dims=[dims, dims]
    )
    return values, indices.to(int64)
