"""Questions about floating-point values, their signs and parts, and what replaces NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import (
    abs,
    eq,
    gt,
    logical_and,
    logical_not,
    logical_or,
    lt,
    maximum,
    minimum,
    ne,
    neg,
    reciprocal,
    sign,
    sub,
    trunc,
    where,
)
from trtnet.ops.operands import same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import binary, floating, unary
from trtnet.tensor import Tensor

_LARGEST = {  # of the floating-point types
    DType.FLOAT32: float(np.finfo(np.float32).max),
    DType.FLOAT16: float(np.finfo(np.float16).max),
    DType.BFLOAT16: float.fromhex("0x1.fep127"),
}


@operator
def isnan(input: Tensor) -> Tensor:
    """Whether elements are NaN, as bool."""
    return unary("isnan", "ISNAN", input) if input.dtype.is_floating_point else ne(input, input)


@operator
def isinf(input: Tensor) -> Tensor:
    """Whether elements are infinite, as bool."""
    return unary("isinf", "ISINF", input) if input.dtype.is_floating_point else ne(input, input)


@operator
def isfinite(input: Tensor) -> Tensor:
    """Whether elements are neither infinite nor NaN, as bool."""
    if not input.dtype.is_floating_point:
        return eq(input, input)
    return logical_not(logical_or(isnan(input), isinf(input)))


@operator
def isposinf(input: Tensor) -> Tensor:
    """Whether elements are positive infinity, as bool."""
    return isinf(input) if not input.dtype.is_floating_point else eq(input, math.inf)


@operator
def isneginf(input: Tensor) -> Tensor:
    """Whether elements are negative infinity, as bool."""
    return isinf(input) if not input.dtype.is_floating_point else eq(input, -math.inf)


@operator
def nan_to_num(
    input: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """`input` with `nan` (0) for NaN, and `posinf`, `neginf` for the infinities: by default the
    largest and the smallest value of its type."""
    if not input.dtype.is_floating_point:
        return input
    largest = _LARGEST[input.dtype]
    high = largest if posinf is None else posinf
    low = -largest if neginf is None else neginf
    x = where(isnan(input), 0.0 if nan is None else float(nan), input)
    x = where(eq(input, math.inf), float(high), x)
    return where(eq(input, -math.inf), float(low), x)


@operator
def signbit(input: Tensor) -> Tensor:
    """Whether the sign bit of elements is set, as bool: also that of -0.0. NaN counts as positive:
    no layer sees its sign."""
    is_negative = lt(input, 0)
    if not input.dtype.is_floating_point:
        return is_negative
    return logical_or(is_negative, logical_and(eq(input, 0), lt(reciprocal(input), 0)))


@operator
def copysign(input: Any, other: Any) -> Tensor:
    """The magnitude of `input` with the sign of `other`; see :func:`signbit` for NaN."""
    a, b = (floating(v) for v in same_type(input, other))
    size = abs(a)
    return where(signbit(b), neg(size), size)


@operator
def sgn(input: Tensor) -> Tensor:
    """:func:`sign`, as PyTorch names it for complex numbers too."""
    return sign(input)


@operator
def frac(input: Tensor) -> Tensor:
    """``input - trunc(input)``.

    Raises:
        UnsupportedError: integers, as in PyTorch.
    """
    if not input.dtype.is_floating_point:
        raise UnsupportedError("frac: needs a floating-point tensor", got=input.dtype)
    return sub(input, trunc(input))


@operator
def heaviside(input: Tensor, values: Any) -> Tensor:
    """0 where `input` is negative, 1 where it is positive, `values` where it is zero."""
    x, at_zero = same_type(input, values)
    return where(eq(x, 0), at_zero, gt(x, 0).to(x.dtype))


@operator
def fmax(input: Any, other: Any) -> Tensor:
    """The larger of two elements; of a number and NaN the number."""
    a, b = same_type(input, other)
    if not a.dtype.is_floating_point:
        return maximum(a, b)
    return where(isnan(a), b, where(isnan(b), a, binary("fmax", "MAX", a, b)))


@operator
def fmin(input: Any, other: Any) -> Tensor:
    """The smaller of two elements; of a number and NaN the number."""
    a, b = same_type(input, other)
    if not a.dtype.is_floating_point:
        return minimum(a, b)
    return where(isnan(a), b, where(isnan(b), a, binary("fmin", "MIN", a, b)))


@operator
def isclose(
    input: Tensor, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Whether ``abs(input - other) <= atol + rtol * abs(other)``, or both are equal, as bool."""
    a, b = same_type(input, other)
    same = eq(a, b)
    if equal_nan and a.dtype.is_floating_point:
        same = logical_or(same, logical_and(isnan(a), isnan(b)))
    error, size = abs(floating(sub(a, b))), abs(floating(b))
    near = logical_not(gt(error, size * rtol + atol))
    return logical_or(same, logical_and(isfinite(error), near))


@operator
def real(input: Tensor) -> Tensor:
    """`input`: tensors of a network are real. So do the functions below."""
    return input


@operator(methods=("conj", "conj_physical", "resolve_conj", "resolve_neg"))
def conj(input: Tensor) -> Tensor:
    """`input`."""
    return input


@operator(methods=("positive", "__pos__"))
def positive(input: Tensor) -> Tensor:
    """`input`."""
    return input
