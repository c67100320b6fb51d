"""Trigonometric and hyperbolic functions; integers give float32."""

from __future__ import annotations

from typing import Any

from trtnet.ops.division import div
from trtnet.ops.elementwise import (
    abs,
    add,
    eq,
    gt,
    logical_and,
    logical_or,
    mul,
    sqrt,
    square,
    sub,
    where,
)
from trtnet.ops.floats import copysign, isinf, signbit
from trtnet.ops.operands import same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import exact, floating, unary_floating, widened
from trtnet.tensor import Tensor


@operator
def sin(input: Tensor) -> Tensor:
    """Sine; `input` in radians."""
    return unary_floating("sin", "SIN", input)


@operator
def cos(input: Tensor) -> Tensor:
    """Cosine; `input` in radians."""
    return unary_floating("cos", "COS", input)


@operator
def tan(input: Tensor) -> Tensor:
    """Tangent; `input` in radians."""
    return unary_floating("tan", "TAN", input)


@operator(methods=("asin", "arcsin"))
def asin(input: Tensor) -> Tensor:
    """Inverse sine, in radians; NaN outside of [-1, 1]."""
    return unary_floating("asin", "ASIN", input)


@operator(methods=("acos", "arccos"))
def acos(input: Tensor) -> Tensor:
    """Inverse cosine, in radians; NaN outside of [-1, 1]."""
    return unary_floating("acos", "ACOS", input)


@operator(methods=("atan", "arctan"))
def atan(input: Tensor) -> Tensor:
    """Inverse tangent, in radians."""
    return unary_floating("atan", "ATAN", input)


@operator
def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return unary_floating("sinh", "SINH", input)


@operator
def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return unary_floating("cosh", "COSH", input)


@operator(methods=("asinh", "arcsinh"))
def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""
    return unary_floating("asinh", "ASINH", input)


@operator(methods=("acosh", "arccosh"))
def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine; NaN below 1."""
    return unary_floating("acosh", "ACOSH", input)


@operator(methods=("atanh", "arctanh"))
def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent; NaN outside of [-1, 1]."""
    return unary_floating("atanh", "ATANH", input)


@operator(methods=("atan2", "arctan2"))
def atan2(input: Any, other: Any) -> Tensor:
    """The angle of the point (`other`, `input`), from -pi to pi, in all four quadrants; zeros and
    infinities as in C."""
    y, x = (floating(v) for v in same_type(input, other))
    return widened(_atan2, y, x)


def _atan2(y: Tensor, x: Tensor) -> Tensor:
    high, low = abs(x), abs(y)
    is_steep = gt(low, high)
    high, low = where(is_steep, low, high), where(is_steep, high, low)
    slope = div(low, where(eq(high, 0), 1.0, high))
    slope = where(logical_and(isinf(low), isinf(high)), 1.0, slope)
    angle = unary_floating("atan2", "ATAN", slope)
    half_turn = _pi(y)
    angle = where(is_steep, sub(mul(half_turn, 0.5), angle), angle)
    angle = where(signbit(x), sub(half_turn, angle), angle)
    return copysign(angle, y)


@operator
def hypot(input: Any, other: Any) -> Tensor:
    """``sqrt(input ** 2 + other ** 2)`` without overflow between."""
    a, b = (floating(v) for v in same_type(input, other))
    return widened(_hypot, a, b)


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    high, low = abs(a), abs(b)
    is_turned = gt(low, high)
    high, low = where(is_turned, low, high), where(is_turned, high, low)
    ratio = div(low, where(eq(high, 0), 1.0, high))
    length = mul(high, sqrt(add(square(ratio), 1.0)))
    any_infinite = logical_or(isinf(a), isinf(b))
    return where(any_infinite, float("inf"), length)


@operator
def deg2rad(input: Tensor) -> Tensor:
    """Degrees as radians."""
    return widened(lambda x: mul(x, div(_pi(x), 180.0)), floating(input))


@operator
def rad2deg(input: Tensor) -> Tensor:
    """Radians as degrees."""
    return widened(lambda x: mul(x, div(180.0, _pi(x))), floating(input))


@operator
def sinc(input: Tensor) -> Tensor:
    """``sin(pi * input) / (pi * input)``, and 1 at zero."""
    return widened(_sinc, floating(input))


def _sinc(x: Tensor) -> Tensor:
    angle, is_zero = mul(x, _pi(x)), eq(x, 0)
    return where(is_zero, 1.0, div(sin(angle), where(is_zero, 1.0, angle)))


def _pi(x: Tensor) -> Tensor:
    """Pi in the type of `x`, with all digits of the type that the network is executed in."""
    return exact("pi", "ACOS", x, -1.0)
