"""Normalization by the size of values: vectors, root mean squares, neighbouring channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import require
from trtnet.ops.division import div
from trtnet.ops.elementwise import abs, add, maximum, mul, ne, pow, rsqrt, sqrt, square
from trtnet.ops.norm import as_shape, average, check_last_axes, scaled
from trtnet.ops.operands import normalize_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.ops.pooling import avg_pool
from trtnet.ops.reduction import amax, amin, sum
from trtnet.ops.shape import reshape
from trtnet.tensor import Tensor

_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)


@operator(methods=())
def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None
) -> Tensor:
    """``input / max(norm, eps)`` with the `p`-norm along `dim`, an axis or several; `p` is any
    number, infinities included. In half precision computed in the policy's type for reductions, in
    which squares do not overflow.

    Raises:
        UnsupportedError: `out`; an `input` that is not floating point.
    """
    require(out is None, "normalize: out= is not supported", fix="use the returned tensor")
    if not input.dtype.is_floating_point:
        raise UnsupportedError(
            "normalize: needs a floating-point tensor", got=input.dtype, fix="use x.float()"
        )
    axes = normalize_axes(dim, input.ndim, "normalize")

    def unit(x: Tensor) -> Tensor:
        return div(x, maximum(_norm(x, float(p), axes), eps))

    return input.network.casts.around("reduction", input, unit)


def _norm(x: Tensor, p: float, axes: list[int]) -> Tensor:
    """The `p`-norm of `x` over `axes`, which keep size one."""
    if p == 2:
        return sqrt(sum(square(x), axes, keepdim=True))
    sizes = abs(x)
    if math.isinf(p):
        return (amax if p > 0 else amin)(sizes, axes, keepdim=True)
    if p == 0:
        return sum(x.network.cast(ne(x, 0), x.dtype), axes, keepdim=True)
    if p == 1:
        return sum(sizes, axes, keepdim=True)
    return pow(sum(pow(sizes, p), axes, keepdim=True), 1 / p)


@operator(methods=())
def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    """``input / sqrt(mean(input ** 2) + eps) * weight`` over the last axes, whose sizes are
    `normalized_shape`. Zhang and Sennrich, https://arxiv.org/abs/1910.07467.

    Args:
        eps: ``None`` is the machine epsilon of float32, in which half precision is computed too.

    Raises:
        ShapeError: the last axes have other sizes, or one that is known only at run time.
    """
    shape = as_shape(normalized_shape)
    check_last_axes("rms_norm", input, shape)
    x = input.network.compute(input, "normalization")
    axes = range(x.ndim - len(shape), x.ndim)
    mean = average(square(x), axes)
    unit = mul(x, rsqrt(add(mean, _FLOAT32_EPSILON if eps is None else eps)))
    full = [1] * (x.ndim - len(shape)) + list(shape)
    return x.network.casts.back(scaled(unit, weight, None, full))


@operator(methods=())
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``input / (k + alpha * mean) ** beta``, where `mean` is that of the squares in a window of
    `size` channels; channels beyond the first and last count as zeros. Krizhevsky et al.,
    https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks

    Raises:
        ShapeError: fewer than three axes, or a number of channels known only at run time.
    """
    if input.ndim < 3 or not isinstance(input.shape[1], int):
        raise ShapeError(
            "local_response_norm: needs rank 3 or more, and a fixed number of channels",
            got=f"{input!r}",
        )
    x = input.network.compute(input, "normalization")
    rows = reshape(square(x), x.shape[0], 1, x.shape[1], -1)
    padded = pad(rows, (0, 0, size // 2, (size - 1) // 2))
    mean = reshape(avg_pool(2, padded, (size, 1), 1), x.shape)
    return x.network.casts.back(div(x, pow(add(mul(mean, alpha), k), beta)))
