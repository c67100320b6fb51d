"""The largest and smallest elements along an axis, and their positions."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

from trtnet.dtypes import DType, int64
from trtnet.ops.elementwise import maximum, minimum
from trtnet.ops.operands import insert_axes, normalize_axis, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import numpy_names
from trtnet.ops.reduction import amax, amin
from trtnet.ops.shape import flatten, reshape
from trtnet.tensor import Tensor


class ValuesIndices(NamedTuple):
    """Values and their positions, as ``torch.return_types`` has them."""

    values: Tensor
    indices: Tensor


@operator
@numpy_names
def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Without `dim` the largest value; with it ``(values, indices)``, of equal values the first.
    With a tensor in place of `dim`, the elementwise maximum, as in PyTorch. Where values are NaN,
    so is the result, and its position is not defined."""
    return _extreme("MAX", input, dim if other is None else other, keepdim)


@operator
@numpy_names
def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """As :func:`max`, for the smallest value."""
    return _extreme("MIN", input, dim if other is None else other, keepdim)


def _extreme(kind: str, x: Any, dim: Any, keepdim: bool) -> Any:
    if dim is None:
        return amax(x) if kind == "MAX" else amin(x)
    if not isinstance(dim, numbers.Integral):
        return (maximum if kind == "MAX" else minimum)(x, dim)
    if not x.ndim:
        return ValuesIndices(x, x.network.constant(0, int64))
    axis = normalize_axis(dim, x.ndim, kind.lower())
    found = _topk(x, 1, axis, kind)
    return found if keepdim else ValuesIndices(*(remove_axes(tensor, [axis]) for tensor in found))


@operator
@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the largest value as int64; of equal ones the first. Without `dim`, its position
    in the flattened tensor."""
    return _arg("MAX", input, dim, keepdim)


@operator
@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the smallest value; see :func:`argmax`."""
    return _arg("MIN", input, dim, keepdim)


def _arg(kind: str, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    rank = x.ndim
    if dim is None or not rank:
        index = remove_axes(_topk(flatten(x), 1, 0, kind).indices, [0])
        return reshape(index, *[1] * rank) if keepdim and rank else index
    axis = normalize_axis(dim, rank, "arg" + kind.lower())
    indices = _topk(x, 1, axis, kind).indices
    return indices if keepdim else remove_axes(indices, [axis])


def _topk(x: Tensor, k: int, axis: int, kind: str) -> ValuesIndices:
    network = x.network
    if x.dtype in (DType.BOOL, DType.INT8, DType.UINT8):
        values, indices = _topk(x.to(int64), k, axis, kind)
        return ValuesIndices(values.to(x.dtype), indices)
    if x.ndim == 1:  # TensorRT wants at least two axes
        values, indices = _topk(insert_axes(x, [0]), k, 1, kind)
        return ValuesIndices(remove_axes(values, [0]), remove_axes(indices, [0]))
    dims = [k if i == axis else size for i, size in enumerate(x.shape)]
    operation = getattr(network.trt.TopKOperation, kind)
    values, indices = network.emit_all(
        "topk", "add_topk", x, operation, k, 1 << axis, dims=[dims, dims]
    )
    return ValuesIndices(values, indices.to(int64))
