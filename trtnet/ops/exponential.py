"""Exponentials and logarithms that keep their digits, and what is made of them.

TensorRT has the natural exponential and logarithm. Other bases divide by the logarithm of the
base, which the engine computes, so that it has all digits of the type in use.
"""

from __future__ import annotations

from typing import Any

from trtnet.ops.division import div
from trtnet.ops.elementwise import (
    abs,
    add,
    clamp,
    eq,
    exp,
    log,
    lt,
    mul,
    neg,
    pow,
    sub,
    where,
)
from trtnet.ops.floats import isnan
from trtnet.ops.operands import same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import binary, exact, floating, unary, widened
from trtnet.tensor import Tensor


@operator
def exp2(input: Tensor) -> Tensor:
    """``2 ** input``; integers give float32, here and below."""
    return pow(2.0, floating(input))


@operator
def expm1(input: Tensor) -> Tensor:
    """``exp(input) - 1``, precise near zero."""
    return widened(_expm1, floating(input))


def _expm1(x: Tensor) -> Tensor:
    tanh = x.network.trt.ActivationType.TANH  # exp(x) - 1 = tanh(x / 2) (exp(x) + 1)
    ratio = x.network.emit("expm1", "add_activation", mul(x, 0.5), tanh, dims=x.shape)
    return mul(ratio, add(exp(x), 1.0))


@operator
def log1p(input: Tensor) -> Tensor:
    """``log(1 + input)``, precise near zero."""
    return widened(_log1p, floating(input))


def _log1p(x: Tensor) -> Tensor:
    ratio = div(x, add(x, 2.0))  # log(1 + x) = 2 atanh(x / (2 + x))
    near = mul(unary("log1p", "ATANH", ratio), 2.0)
    return where(lt(abs(x), 0.5), near, log(add(x, 1.0)))


@operator
def log2(input: Tensor) -> Tensor:
    """Logarithm to the base 2."""
    return widened(lambda x: div(log(x), exact("log2", "LOG", x, 2.0)), floating(input))


@operator
def log10(input: Tensor) -> Tensor:
    """Logarithm to the base 10."""
    return widened(lambda x: div(log(x), exact("log10", "LOG", x, 10.0)), floating(input))


@operator
def logaddexp(input: Any, other: Any) -> Tensor:
    """``log(exp(input) + exp(other))`` without overflow."""
    return widened(_logaddexp, *(floating(v) for v in same_type(input, other)))


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    gap = where(eq(a, b), 0.0, abs(sub(a, b)))  # infinities of one sign have no difference
    return add(binary("logaddexp", "MAX", a, b), _log1p(exp(neg(gap))))


@operator
def logaddexp2(input: Any, other: Any) -> Tensor:
    """``log2(2 ** input + 2 ** other)`` without overflow."""
    return widened(_logaddexp2, *(floating(v) for v in same_type(input, other)))


def _logaddexp2(a: Tensor, b: Tensor) -> Tensor:
    gap = where(eq(a, b), 0.0, abs(sub(a, b)))
    tail = div(_log1p(pow(2.0, neg(gap))), exact("logaddexp2", "LOG", a, 2.0))
    return add(binary("logaddexp2", "MAX", a, b), tail)


@operator
def xlogy(input: Any, other: Any) -> Tensor:
    """``input * log(other)``, and 0 where `input` is zero and `other` not NaN."""
    return widened(_xlogy, *(floating(v) for v in same_type(input, other)))


def _xlogy(x: Tensor, y: Tensor) -> Tensor:
    product = mul(where(eq(x, 0), 0.0, x), log(y))
    return where(isnan(y), y, where(eq(x, 0), 0.0, product))


@operator
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``log(input / (1 - input))``, `input` limited to ``[eps, 1 - eps]`` before."""
    return widened(lambda x: _logit(x, eps), floating(input))


def _logit(x: Tensor, eps: float | None) -> Tensor:
    if eps is not None:
        x = clamp(x, eps, 1.0 - eps)
    return log(div(x, sub(1.0, x)))


@operator
def erf(input: Tensor) -> Tensor:
    """Error function."""
    return unary("erf", "ERF", floating(input))


@operator
def erfc(input: Tensor) -> Tensor:
    """``1 - erf(input)``. TensorRT has no layer for it: where the result is small, its error is
    that of :func:`erf` near one."""
    return widened(lambda x: sub(1.0, unary("erfc", "ERF", x)), floating(input))


@operator
def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """``input + weight * (end - input)``."""
    a, b = same_type(input, end)
    return add(a, mul(weight, sub(b, a)))


@operator
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    a, b, c = same_type(input, tensor1, tensor2)
    return add(a, mul(b, c), alpha=value)


@operator
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    a, b, c = same_type(input, tensor1, tensor2)
    return add(a, div(b, c), alpha=value)
