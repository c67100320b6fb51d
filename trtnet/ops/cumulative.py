"""Running sums, products, extremes and log-sums along an axis.

TensorRT has a layer for sums alone. The others are scans: ``log2(size)`` steps, each of which joins
every element with the one `2 ** step` places before it. Where the size of the axis is known only at
run time, they reduce a matrix of ``size * size`` elements for each row instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from trtnet.dtypes import DType, dtype_of, int32, int64
from trtnet.errors import UnsupportedError
from trtnet.ops.arranging import matrix_mask
from trtnet.ops.elementwise import abs as absolute
from trtnet.ops.elementwise import (
    add,
    eq,
    exp,
    ge,
    le,
    log,
    logical_not,
    logical_or,
    maximum,
    mul,
    neg,
    sub,
    where,
)
from trtnet.ops.operands import insert_axes, normalize_axis
from trtnet.ops.operator import operator
from trtnet.ops.positions import along, iota
from trtnet.ops.reduction import amax, prod
from trtnet.ops.shape import expand, reshape, slice_
from trtnet.tensor import Tensor

Step = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]


class CumulativeExtreme(NamedTuple):
    """What cummax and cummin return.

    Attributes:
        values: the extremes so far.
        indices: their positions, int64; of equal ones the last.
    """

    values: Tensor
    indices: Tensor


@operator
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sum along `dim`, in `dtype` if one is given; integers and bools give int64."""
    x, axis = _prepared("cumsum", input, dim, dtype)
    return x if not x.ndim else x.network.casts.around("reduction", x, lambda w: _sum(w, axis))


def _sum(x: Tensor, axis: int) -> Tensor:
    network = x.network
    kind = network.trt.CumulativeOperation.SUM
    at = network.constant(axis, int32)
    return network.emit("cumsum", "add_cumulative", x, at, kind, False, False, dims=x.shape)


@operator
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running product along `dim`, in `dtype` if one is given; integers and bools give int64."""
    x, axis = _prepared("cumprod", input, dim, dtype)
    return x if not x.ndim else x.network.casts.around("reduction", x, lambda w: _product(w, axis))


def _product(x: Tensor, axis: int) -> Tensor:
    if isinstance(x.shape[axis], int):
        return scan([x], axis, [1], lambda now, before: [mul(now[0], before[0])])[0]
    wide, before = _pairs(x, axis)
    return prod(where(before, wide, _constant(1, wide)), axis + 1)  # type: ignore[no-any-return]


@operator
def cummax(input: Tensor, dim: int) -> Any:
    """The largest value so far along `dim`, and its position: of equal ones the last. From a NaN
    on all are NaN.

    Raises:
        UnsupportedError: the size of the axis is known only at run time.
    """
    return _extreme("cummax", input, dim, ge)


@operator
def cummin(input: Tensor, dim: int) -> Any:
    """As :func:`cummax`, for the smallest value."""
    return _extreme("cummin", input, dim, le)


def _extreme(op: str, x: Tensor, dim: int, replaces: Any) -> CumulativeExtreme:
    axis = normalize_axis(dim, max(x.ndim, 1), op)
    if not x.ndim:
        return CumulativeExtreme(x, x.network.constant(0, int64))
    size = x.shape[axis]
    if not isinstance(size, int):
        raise UnsupportedError(
            f"{op}: the size of the axis is known only at run time",
            got=f"{size} on axis {axis}",
            fix="give this axis a fixed size in network.input(...)",
        )
    wide = x.to(int32) if x.dtype in (DType.BOOL, DType.INT8) else x
    places = along(iota(x.network, size), axis, x.ndim)

    def step(now: Sequence[Tensor], before: Sequence[Tensor]) -> Sequence[Tensor]:
        # What lies before the axis has position -1, and never takes the place of an element.
        better = logical_or(replaces(now[0], before[0]), before[1] < 0)
        if wide.dtype.is_floating_point:
            better = logical_or(better, logical_not(eq(now[0], now[0])))
        return [where(better, n, b) for n, b in zip(now, before, strict=True)]

    start = [wide, expand(places, *x.shape)]
    values, indices = scan(start, axis, [0, -1], step) if size > 1 else start
    return CumulativeExtreme(values.to(x.dtype), indices)


@operator
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """``log(cumsum(exp(input), dim))`` without overflow."""
    x, axis = _prepared("logcumsumexp", input, dim, None)
    if not x.dtype.is_floating_point:
        raise UnsupportedError("logcumsumexp: needs a floating-point tensor", got=x.dtype)
    if not x.ndim:
        return x
    return x.network.casts.around("reduction", x, lambda wide: _log_sum(wide, axis))


def _log_sum(x: Tensor, axis: int) -> Tensor:
    if isinstance(x.shape[axis], int):
        return scan([x], axis, [-math.inf], lambda now, before: [_join(now[0], before[0])])[0]
    wide, before = _pairs(x, axis)
    masked = where(before, wide, _constant(-math.inf, wide))
    top = amax(masked, axis + 1, True)
    base = where(eq(absolute(top), math.inf), _constant(0, top), top)  # inf - inf is no number
    total: Any = log(exp(masked - base).sum(axis + 1, keepdim=True)) + base
    return reshape(total, *x.shape)


def _join(a: Tensor, b: Tensor) -> Tensor:
    """``log(exp(a) + exp(b))``; equal infinities, which have no difference, stay."""
    gap = where(eq(a, b), _constant(0, a), absolute(sub(a, b)))
    return add(maximum(a, b), log(add(exp(neg(gap)), 1)))


def _prepared(op: str, x: Tensor, dim: int, dtype: Any) -> tuple[Tensor, int]:
    axis = normalize_axis(dim, max(x.ndim, 1), op)
    if dtype is not None:
        return x.to(dtype_of(dtype)), axis
    wide = not x.dtype.is_floating_point and op != "logcumsumexp"
    return x.to(int64) if wide else x, axis


def scan(
    values: Sequence[Tensor], axis: int, fills: Sequence[float], step: Step
) -> Sequence[Tensor]:
    """``step(now, before)`` of every element and what was joined up to the element before it.

    Args:
        values: tensors of one shape, whose size along `axis` is an int.
        fills: for each of them what lies before the axis.
        step: joins two runs of elements, `before` the one in front.
    """
    shape, distance = values[0].shape, 1
    starts = [0] * len(shape)
    while distance < shape[axis]:
        starts[axis] = -distance
        before = [
            slice_(value, starts, shape, [1] * len(shape), mode="FILL", fill=fill)
            for value, fill in zip(values, fills, strict=True)
        ]
        values, distance = step(values, before), 2 * distance
    return values


def _pairs(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """`x` with an axis in front of `axis`, and which of its elements belong to the run that ends
    at a position on that axis."""
    size = x.shape[axis]
    mask = matrix_mask(x, size, size, lambda ends, places: le(places, ends))
    shape = [1] * (x.ndim + 1)
    shape[axis] = shape[axis + 1] = size
    return insert_axes(x, [axis]), reshape(mask, *shape)


def _constant(value: float, like: Tensor) -> Tensor:
    return like.network.constant(np.full((1,) * like.ndim, value), like.dtype)
