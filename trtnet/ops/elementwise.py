"""Operations on each element, with PyTorch's broadcasting and type promotion."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trtnet.dtypes import DType, float32
from trtnet.errors import UnsupportedError
from trtnet.ops.operands import broadcast_dims, broadcast_ranks, compared, same_type, within
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import binary, rounding, unary, unary_floating
from trtnet.tensor import Tensor


@operator(methods=("add", "__add__", "__radd__"))
def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``input + alpha * other``; of booleans, whether one or both are true."""
    other = _times(other, alpha)
    if isinstance(input, Tensor) and isinstance(other, Tensor):
        input, other = input.network.quantizer.shortcut(input, other)
    a, b = same_type(input, other)
    return binary("add", "OR" if a.dtype is DType.BOOL else "SUM", a, b)


@operator(methods=("sub", "subtract", "__sub__"), reflected="__rsub__")
def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``input - alpha * other``.

    Raises:
        UnsupportedError: two boolean tensors, as in PyTorch.
    """
    a, b = same_type(input, _times(other, alpha))
    if a.dtype is DType.BOOL:
        raise UnsupportedError("sub: booleans cannot be subtracted", fix="use a ^ b")
    return binary("sub", "SUB", a, b)


def _times(other: Any, alpha: float) -> Any:
    if alpha == 1:
        return other
    return other * alpha if isinstance(other, (int, float)) else mul(other, alpha)


@operator
def rsub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``other - alpha * input``."""
    return sub(other, input, alpha=alpha)


@operator(methods=("mul", "multiply", "__mul__", "__rmul__"))
def mul(input: Any, other: Any) -> Tensor:
    """``input * other``; of booleans, whether both are true."""
    a, b = same_type(input, other)
    return binary("mul", "AND" if a.dtype is DType.BOOL else "PROD", a, b)


@operator(methods=("pow", "__pow__"), reflected="__rpow__")
def pow(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent``; of integers in integers, as PyTorch.

    Raises:
        UnsupportedError: integers to a negative integer, as in PyTorch.
    """
    if isinstance(input, Tensor) and isinstance(exponent, (int, float)):
        found = _power(input, exponent)
        if found is not None:
            return found
    return binary("pow", "POW", *same_type(input, exponent))


def _power(x: Tensor, exponent: float) -> Tensor | None:
    """Powers that need no POW layer, ``None`` for others."""
    if x.dtype.is_floating_point:
        return _SIMPLE_POWERS[exponent](x) if exponent in _SIMPLE_POWERS else None
    if not isinstance(exponent, int):
        return None
    if exponent < 0:
        raise UnsupportedError(
            "pow: integers cannot be raised to a negative power",
            got=exponent,
            fix="x.float() ** exponent",
        )
    result, factor = None, x  # products of integers are exact, and wrap as PyTorch's
    while exponent:
        if exponent % 2:
            result = factor if result is None else mul(result, factor)
        exponent //= 2
        factor = mul(factor, factor) if exponent else factor
    return result


@operator
def float_power(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent`` in float32; PyTorch computes it in float64, which no layer has."""
    x, y = (v.to(float32) if isinstance(v, Tensor) else v for v in (input, exponent))
    return pow(x, float(y) if isinstance(y, int) else y)


@operator
def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two elements; NaN where one of them is NaN. Beside a finite number, what
    TensorRT gives for NaN: it may be the number."""
    a, b = same_type(input, other)
    if a.dtype is DType.BOOL:
        return logical_and(a, b)
    return _with_nan(binary("minimum", "MIN", a, b), (input, a), (other, b))


@operator
def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two elements; NaN where one of them is NaN. Beside a finite number, what
    TensorRT gives for NaN: it may be the number."""
    a, b = same_type(input, other)
    if a.dtype is DType.BOOL:
        return logical_or(a, b)
    return _with_nan(binary("maximum", "MAX", a, b), (input, a), (other, b))


def _with_nan(found: Tensor, *operands: tuple[Any, Tensor]) -> Tensor:
    """`found`, of which TensorRT leaves the NaN of one operand out, with it. Only tensors are
    looked at: numbers and parameters are finite, or infinite on purpose. Beside a finite number
    the layer stands alone, as ReLU's and CLIP's do: it is a limit."""
    if any(_is_finite(given) for given, _ in operands):
        return found
    for given, x in operands:
        if isinstance(given, Tensor) and x.dtype.is_floating_point:
            found = where(unary("isnan", "ISNAN", x), x, found)
    return found


def _is_finite(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all())
    return isinstance(value, (int, float)) and math.isfinite(value)


@operator(methods=("clamp", "clip"))
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limits values to ``[min, max]``; either may be a number, a tensor, or left out.

    Raises:
        UnsupportedError: both are left out, as in PyTorch.
    """
    if min is None and max is None:
        raise UnsupportedError("clamp: neither min nor max is given")
    numbers = [bound for bound in (min, max) if isinstance(bound, (int, float))]
    if len(numbers) == 2 and input.dtype.is_floating_point and all(map(math.isfinite, numbers)):
        clip = input.network.trt.ActivationType.CLIP
        low = min if min < max else max  # PyTorch lets max win where they cross
        low, high = within(np.array([low, max], np.float64), input.dtype).tolist()
        return input.network.emit(
            "clamp", "add_activation", input, clip, dims=input.shape, alpha=low, beta=high
        )
    if min is not None:
        input = maximum(input, min)
    return input if max is None else minimum(input, max)


@operator
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Values not below `min`."""
    return clamp(input, min)


@operator
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Values not above `max`."""
    return clamp(input, None, max)


@operator(methods=("abs", "absolute", "__abs__"))
def abs(input: Tensor) -> Tensor:
    """Absolute value."""
    return unary("abs", "ABS", input)


@operator(methods=("neg", "negative", "__neg__"))
def neg(input: Tensor) -> Tensor:
    """``-input``."""
    return unary("neg", "NEG", input)


@operator
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return unary("sign", "SIGN", input)


@operator
def exp(input: Tensor) -> Tensor:
    """``e ** input``; integers give float32, here and below."""
    return unary_floating("exp", "EXP", input)


@operator
def log(input: Tensor) -> Tensor:
    """Natural logarithm."""
    return unary_floating("log", "LOG", input)


@operator
def sqrt(input: Tensor) -> Tensor:
    """Square root."""
    return unary_floating("sqrt", "SQRT", input)


@operator
def reciprocal(input: Tensor) -> Tensor:
    """``1 / input``."""
    return unary_floating("reciprocal", "RECIP", input)


@operator
def rsqrt(input: Tensor) -> Tensor:
    """``1 / sqrt(input)``."""
    return reciprocal(sqrt(input))


@operator
def square(input: Tensor) -> Tensor:
    """``input * input``."""
    return mul(input, input)


@operator
def floor(input: Tensor) -> Tensor:
    """Rounds down."""
    return rounding("floor", "FLOOR", input)


@operator
def ceil(input: Tensor) -> Tensor:
    """Rounds up."""
    return rounding("ceil", "CEIL", input)


@operator
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounds halves to even, as PyTorch and TensorRT do, to `decimals` digits after the point (or
    before it, if negative)."""
    if not decimals:
        return rounding("round", "ROUND", input)
    if not input.dtype.is_floating_point:
        raise UnsupportedError("round: decimals of integers", got=input.dtype, fix="x.float()")
    kinds = ("PROD", "DIV") if decimals > 0 else ("DIV", "PROD")
    x, scale = same_type(input, 10.0 ** builtins.abs(decimals))
    whole = rounding("round", "ROUND", binary("round", kinds[0], x, scale))
    return binary("round", kinds[1], whole, scale)


@operator(methods=("trunc", "fix"))
def trunc(input: Tensor) -> Tensor:
    """Rounds towards zero."""
    if not input.dtype.is_floating_point:
        return input
    return where(lt(input, 0), ceil(input), floor(input))


@operator
def eq(input: Any, other: Any) -> Tensor:
    """Whether elements are equal, as bool."""
    a, b = compared(input, other)
    if a.dtype is DType.BOOL:
        return logical_not(logical_xor(a, b))
    return binary("eq", "EQUAL", a, b)


@operator
def ne(input: Any, other: Any) -> Tensor:
    """Whether elements differ, as bool."""
    return logical_not(eq(input, other))


@operator(methods=("lt", "less", "__lt__"))
def lt(input: Any, other: Any) -> Tensor:
    """``input < other``, as bool."""
    return binary("lt", "LESS", *compared(input, other))


@operator(methods=("gt", "greater", "__gt__"))
def gt(input: Any, other: Any) -> Tensor:
    """``input > other``, as bool."""
    return binary("gt", "GREATER", *compared(input, other))


@operator(methods=("le", "less_equal", "__le__"))
def le(input: Any, other: Any) -> Tensor:
    """``input <= other``, as bool."""
    a, b = compared(input, other)  # not the inverse of gt(): with a NaN both are false
    return logical_or(lt(a, b), eq(a, b))


@operator(methods=("ge", "greater_equal", "__ge__"))
def ge(input: Any, other: Any) -> Tensor:
    """``input >= other``, as bool."""
    a, b = compared(input, other)
    return logical_or(gt(a, b), eq(a, b))


@operator
def logical_and(input: Any, other: Any) -> Tensor:
    """Whether both are true; numbers other than zero are, here and below."""
    return binary("logical_and", "AND", *_booleans(input, other))


@operator
def logical_or(input: Any, other: Any) -> Tensor:
    """Whether one or both are true."""
    return binary("logical_or", "OR", *_booleans(input, other))


@operator
def logical_xor(input: Any, other: Any) -> Tensor:
    """Whether exactly one is true."""
    return binary("logical_xor", "XOR", *_booleans(input, other))


@operator
def logical_not(input: Tensor) -> Tensor:
    """Whether `input` is false."""
    if input.dtype is not DType.BOOL:
        return eq(input, 0)
    return unary("logical_not", "NOT", input)


def _booleans(*values: Any) -> list[Tensor]:
    tensors = same_type(*values)
    return [x if x.dtype is DType.BOOL else logical_not(eq(x, 0)) for x in tensors]


@operator(methods=(), reflected="where")
def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """`input` where `condition` (bool) holds, `other` elsewhere; ``input.where(condition, other)``
    is the method."""
    if not (isinstance(input, Tensor) or isinstance(other, Tensor)):
        input = condition.network.constant(input)
    a, b = same_type(input, other)
    condition, a, b = broadcast_ranks([condition, a, b])
    return a.network.emit(
        "where",
        "add_select",
        condition,
        a,
        b,
        dims=broadcast_dims([condition.shape, a.shape, b.shape]),
    )


_SIMPLE_POWERS: Mapping[float, Callable[[Tensor], Tensor]] = {  # as PyTorch computes them
    1: lambda x: x,
    2: square,
    3: lambda x: mul(square(x), x),
    0.5: sqrt,
    -0.5: rsqrt,
    -1: reciprocal,
    -2: lambda x: reciprocal(square(x)),
}
