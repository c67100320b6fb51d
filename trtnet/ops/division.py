"""Division and its remainders."""

from __future__ import annotations

import math
from typing import Any

from trtnet.dtypes import float32
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import (
    abs,
    add,
    eq,
    floor,
    ge,
    gt,
    logical_and,
    logical_or,
    lt,
    mul,
    neg,
    round,
    sub,
    trunc,
    where,
)
from trtnet.ops.operands import compared, same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import binary, widened
from trtnet.tensor import Tensor


@operator(methods=("div", "divide", "true_divide", "__truediv__"), reflected="__rtruediv__")
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """True division (integers give float32), or the quotient rounded down (``"floor"``) or
    towards zero (``"trunc"``), in the type of the operands.

    Raises:
        UnsupportedError: another `rounding_mode`.
    """
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode not in (None, "trunc"):
        raise UnsupportedError(
            f"div: rounding_mode={rounding_mode!r}", expected="None, 'floor' or 'trunc'"
        )
    a, b = (compared if rounding_mode is None else same_type)(input, other)
    if not a.dtype.is_floating_point:
        if rounding_mode == "trunc":
            return binary("div", "DIV", a, b)  # of integers TensorRT's division truncates
        a, b = a.to(float32), b.to(float32)
    quotient = binary("div", "DIV", a, b)
    return quotient if rounding_mode is None else trunc(quotient)


@operator(methods=("floor_divide", "__floordiv__"), reflected="__rfloordiv__")
def floor_divide(input: Any, other: Any) -> Tensor:
    """``floor(input / other)`` of the exact quotient; see :func:`fmod` for the precision."""
    a, b = same_type(input, other)
    if not a.dtype.is_floating_point or _is_power_of_two(other):
        return binary("floor_divide", "FLOOR_DIV", a, b)
    return widened(_floor_divided, a, b)


def _floor_divided(a: Tensor, b: Tensor) -> Tensor:
    rest = _fmod(a, b)
    whole = round(binary("div", "DIV", sub(a, rest), b))
    whole = where(_opposite(rest, b), sub(whole, 1), whole)
    return where(eq(b, 0), binary("div", "DIV", a, b), whole)


@operator(methods=("remainder", "__mod__"), reflected="__rmod__")
def remainder(input: Any, other: Any) -> Tensor:
    """``input - floor(input / other) * other``; has the sign of `other`. See :func:`fmod` for the
    precision."""
    a, b = same_type(input, other)
    if not a.dtype.is_floating_point or _is_power_of_two(other):
        return sub(a, mul(binary("floor_divide", "FLOOR_DIV", a, b), b))
    return widened(_remainder, a, b)


def _remainder(a: Tensor, b: Tensor) -> Tensor:
    rest = _fmod(a, b)
    return where(_opposite(rest, b), add(rest, b), rest)


@operator
def fmod(input: Any, other: Any) -> Tensor:
    """``input - trunc(input / other) * other``; has the sign of `input`.

    Exact for quotients below 4096; above, the error is that of rounding `input`.
    """
    a, b = same_type(input, other)
    if not a.dtype.is_floating_point:
        return sub(a, mul(binary("div", "DIV", a, b), b))
    return widened(_fmod, a, b)


def _fmod(a: Tensor, b: Tensor) -> Tensor:
    """fmod() of floating-point operands. `b` is split into two parts of half the digits, whose
    products with a small integer are exact: the quotient, rounded, may be one off."""
    size, divisor = abs(a), abs(b)
    whole = floor(binary("div", "DIV", size, divisor))
    scaled = mul(divisor, 4097.0)  # 2^12 + 1: Dekker's splitting of 24 digits
    high = sub(scaled, sub(scaled, divisor))
    low = sub(divisor, high)
    rest = sub(sub(size, mul(whole, high)), mul(whole, low))
    rest = where(lt(rest, 0), add(rest, divisor), rest)
    rest = where(ge(rest, divisor), sub(rest, divisor), rest)
    rest = where(lt(a, 0), neg(rest), rest)
    return where(lt(size, divisor), a, rest)  # also where `b` is infinite


def _opposite(rest: Tensor, b: Tensor) -> Tensor:
    """Whether `rest` is not zero and has another sign than `b`."""
    return logical_or(
        logical_and(lt(rest, 0), gt(b, 0)),
        logical_and(gt(rest, 0), lt(b, 0)),
    )


def _is_power_of_two(number: Any) -> bool:
    """Whether division by `number` rounds nothing."""
    is_number = isinstance(number, (int, float)) and math.isfinite(number)
    return is_number and math.frexp(number)[0] in (0.5, -0.5)
