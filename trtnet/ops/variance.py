"""Variances and standard deviations along axes."""

from __future__ import annotations

import math
from typing import Any

from trtnet.dtypes import float32
from trtnet.errors import UnsupportedError
from trtnet.ops.division import div
from trtnet.ops.elementwise import sqrt, square, sub
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import binary, numpy_names
from trtnet.ops.reduction import mean, reduce, reduction_axes
from trtnet.tensor import Tensor


@operator
@numpy_names
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Variance over `dim`: the sum of squares divided by the number of elements less `correction`,
    by default 1, or 0 with ``unbiased=False``. Half precision in the policy's type for reductions.

    Raises:
        UnsupportedError: integers, as in PyTorch.
    """
    return _deviation("var", input, dim, unbiased, keepdim, correction)


@operator
@numpy_names
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Square root of :func:`var`."""
    return _deviation("std", input, dim, unbiased, keepdim, correction)


@operator(methods=())
@numpy_names
def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`var` and :func:`mean` over `dim`."""
    axes = None if isinstance(dim, bool) else dim
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, axes, keepdim)


@operator(methods=())
@numpy_names
def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`std` and :func:`mean` over `dim`."""
    axes = None if isinstance(dim, bool) else dim
    return std(input, dim, unbiased, keepdim, correction=correction), mean(input, axes, keepdim)


def _deviation(
    op: str, x: Tensor, dim: Any, unbiased: bool, keepdim: bool, correction: float | None
) -> Tensor:
    if isinstance(dim, bool):  # PyTorch takes var(x, False) too
        dim, unbiased = None, dim
    if not x.dtype.is_floating_point:
        raise UnsupportedError(
            f"{op}: needs a floating-point tensor", got=x.dtype, fix=f"x.float().{op}()"
        )
    less = (1 if unbiased else 0) if correction is None else correction
    axes = reduction_axes(dim, x, op)
    count = math.prod(x.shape[axis] for axis in axes)

    def compute(wide: Tensor) -> Tensor:
        gaps = sub(wide, reduce(op, "AVG", wide, dim, True))
        total = reduce(op, "SUM", square(gaps), dim, keepdim)
        if isinstance(count, int):
            variance = div(total, float(max(count - less, 0)))
        else:
            known = as_tensor(count, wide).to(float32)
            left = sub(known, float(less))
            variance = div(total, binary(op, "MAX", left, as_tensor(0.0, left)))
        return sqrt(variance) if op == "std" else variance

    return x.network.casts.around("reduction", x, compute)
