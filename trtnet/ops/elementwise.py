"""Operations on each element, with PyTorch's broadcasting and type promotion."""

from __future__ import annotations

import math
from typing import Any

from trtnet.dtypes import DType, float32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import broadcast_dims, broadcast_ranks, same_type
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


def _elementwise(op: str, kind: str, a: Tensor, b: Tensor) -> Tensor:
    a, b = broadcast_ranks([a, b])
    network = a.network
    for left, right in zip(a.shape, b.shape, strict=True):
        if (
            isinstance(left, int)
            and isinstance(right, int)
            and left != right
            and 1 not in (left, right)
        ):
            raise ShapeError(
                f"{op}: shapes do not broadcast",
                expected="equal sizes, or 1",
                got=f"{a.shape} and {b.shape}",
            )
    operation = getattr(network.trt.ElementWiseOperation, kind)
    return network.emit(
        op, "add_elementwise", a, b, operation, dims=broadcast_dims([a.shape, b.shape])
    )


def _unary(op: str, kind: str, x: Tensor) -> Tensor:
    operation = getattr(x.network.trt.UnaryOperation, kind)
    return x.network.emit(op, "add_unary", x, operation, dims=x.shape)


def _floating(op: str, kind: str, x: Tensor) -> Tensor:
    return _unary(op, kind, x if x.dtype.is_floating_point else x.to(float32))


def _rounding(op: str, kind: str, x: Tensor) -> Tensor:
    return _unary(op, kind, x) if x.dtype.is_floating_point else x


@operator(methods=("add", "__add__", "__radd__"))
def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``input + alpha * other``."""
    if alpha != 1:
        other = mul(other, alpha)
    if isinstance(input, Tensor) and isinstance(other, Tensor):
        input, other = input.network.quantizer.shortcut(input, other)
    return _elementwise("add", "SUM", *same_type(input, other))


@operator(methods=("sub", "__sub__"), reflected="__rsub__")
def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """``input - alpha * other``."""
    if alpha != 1:
        other = mul(other, alpha)
    return _elementwise("sub", "SUB", *same_type(input, other))


@operator(methods=("mul", "__mul__", "__rmul__"))
def mul(input: Any, other: Any) -> Tensor:
    """``input * other``."""
    return _elementwise("mul", "PROD", *same_type(input, other))


@operator(methods=("div", "__truediv__"), reflected="__rtruediv__")
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """True division (integers give float32); ``rounding_mode`` may be ``"floor"``.

    Raises:
        UnsupportedError: ``rounding_mode="trunc"``.
    """
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode is not None:
        raise UnsupportedError(f"div: rounding_mode={rounding_mode!r}", expected="None or 'floor'")
    a, b = same_type(input, other)
    if not a.dtype.is_floating_point:
        a, b = a.to(float32), b.to(float32)
    return _elementwise("div", "DIV", a, b)


@operator(methods=("floor_divide", "__floordiv__"), reflected="__rfloordiv__")
def floor_divide(input: Any, other: Any) -> Tensor:
    """``floor(input / other)``."""
    return _elementwise("floor_divide", "FLOOR_DIV", *same_type(input, other))


@operator(methods=("remainder", "__mod__"), reflected="__rmod__")
def remainder(input: Any, other: Any) -> Tensor:
    """``input - floor(input / other) * other``; has the sign of `other`."""
    a, b = same_type(input, other)
    return sub(a, mul(floor_divide(a, b), b))


@operator(methods=("pow", "__pow__"), reflected="__rpow__")
def pow(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent``; integers are rounded back to integers."""
    if isinstance(exponent, (int, float)) and exponent in (1, 2):
        return input if exponent == 1 else mul(input, input)  # type: ignore[no-any-return]
    a, b = same_type(input, exponent)
    if not a.dtype.is_floating_point:
        return round(_elementwise("pow", "POW", a.to(float32), b.to(float32))).to(a.dtype)
    return _elementwise("pow", "POW", a, b)


@operator
def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two elements."""
    return _elementwise("minimum", "MIN", *same_type(input, other))


@operator
def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two elements."""
    return _elementwise("maximum", "MAX", *same_type(input, other))


@operator
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limits values to ``[min, max]``; either may be a number, a tensor, or left out."""
    numbers = [bound for bound in (min, max) if isinstance(bound, (int, float))]
    if len(numbers) == 2 and input.dtype.is_floating_point and all(map(math.isfinite, numbers)):
        clip = input.network.trt.ActivationType.CLIP
        low = min if min < max else max  # PyTorch lets max win where they cross
        return input.network.emit(
            "clamp", "add_activation", input, clip, dims=input.shape, alpha=low, beta=max
        )
    if min is not None:
        input = maximum(input, min)
    return input if max is None else minimum(input, max)


@operator(methods=("abs", "__abs__"))
def abs(input: Tensor) -> Tensor:
    """Absolute value."""
    return _unary("abs", "ABS", input)


@operator(methods=("neg", "__neg__"))
def neg(input: Tensor) -> Tensor:
    """``-input``."""
    return _unary("neg", "NEG", input)


@operator
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return _unary("sign", "SIGN", input)


@operator
def exp(input: Tensor) -> Tensor:
    """``e ** input``; integers give float32, here and below."""
    return _floating("exp", "EXP", input)


@operator
def log(input: Tensor) -> Tensor:
    """Natural logarithm."""
    return _floating("log", "LOG", input)


@operator
def sqrt(input: Tensor) -> Tensor:
    """Square root."""
    return _floating("sqrt", "SQRT", input)


@operator
def reciprocal(input: Tensor) -> Tensor:
    """``1 / input``."""
    return _floating("reciprocal", "RECIP", input)


@operator
def rsqrt(input: Tensor) -> Tensor:
    """``1 / sqrt(input)``."""
    return reciprocal(sqrt(input))


@operator
def square(input: Tensor) -> Tensor:
    """``input * input``."""
    return mul(input, input)


@operator
def erf(input: Tensor) -> Tensor:
    """Error function."""
    return _floating("erf", "ERF", input)


@operator
def sin(input: Tensor) -> Tensor:
    """Sine; `input` in radians."""
    return _floating("sin", "SIN", input)


@operator
def cos(input: Tensor) -> Tensor:
    """Cosine; `input` in radians."""
    return _floating("cos", "COS", input)


@operator
def floor(input: Tensor) -> Tensor:
    """Rounds down."""
    return _rounding("floor", "FLOOR", input)


@operator
def ceil(input: Tensor) -> Tensor:
    """Rounds up."""
    return _rounding("ceil", "CEIL", input)


@operator
def round(input: Tensor) -> Tensor:
    """Rounds halves to even, as PyTorch and TensorRT do."""
    return _rounding("round", "ROUND", input)


@operator
def eq(input: Any, other: Any) -> Tensor:
    """Whether elements are equal, as bool."""
    a, b = same_type(input, other)
    if a.dtype is DType.BOOL:
        return logical_not(logical_xor(a, b))
    return _elementwise("eq", "EQUAL", a, b)


@operator
def ne(input: Any, other: Any) -> Tensor:
    """Whether elements differ, as bool."""
    return logical_not(eq(input, other))


@operator(methods=("lt", "__lt__"))
def lt(input: Any, other: Any) -> Tensor:
    """``input < other``, as bool."""
    return _elementwise("lt", "LESS", *same_type(input, other))


@operator(methods=("gt", "__gt__"))
def gt(input: Any, other: Any) -> Tensor:
    """``input > other``, as bool."""
    return _elementwise("gt", "GREATER", *same_type(input, other))


@operator(methods=("le", "__le__"))
def le(input: Any, other: Any) -> Tensor:
    """``input <= other``, as bool."""
    a, b = same_type(input, other)  # not the inverse of gt(): with a NaN both are false
    return logical_or(lt(a, b), eq(a, b))


@operator(methods=("ge", "__ge__"))
def ge(input: Any, other: Any) -> Tensor:
    """``input >= other``, as bool."""
    a, b = same_type(input, other)
    return logical_or(gt(a, b), eq(a, b))


@operator(methods=("logical_and", "__and__"))
def logical_and(input: Any, other: Any) -> Tensor:
    """Whether both are true.

    Raises:
        UnsupportedError: tensors that are not boolean; here and below.
    """
    return _elementwise("logical_and", "AND", *_booleans("logical_and", input, other))


@operator(methods=("logical_or", "__or__"))
def logical_or(input: Any, other: Any) -> Tensor:
    """Whether one or both are true."""
    return _elementwise("logical_or", "OR", *_booleans("logical_or", input, other))


@operator(methods=("logical_xor", "__xor__"))
def logical_xor(input: Any, other: Any) -> Tensor:
    """Whether exactly one is true."""
    return _elementwise("logical_xor", "XOR", *_booleans("logical_xor", input, other))


@operator(methods=("logical_not", "__invert__"))
def logical_not(input: Tensor) -> Tensor:
    """Whether `input` is false."""
    return _unary("logical_not", "NOT", *_booleans("logical_not", input))


def _booleans(op: str, *values: Any) -> list[Tensor]:
    tensors = same_type(*values)
    if any(tensor.dtype is not DType.BOOL for tensor in tensors):
        raise UnsupportedError(
            f"{op}: needs boolean tensors",
            got=", ".join(str(tensor.dtype) for tensor in tensors),
            fix="compare first, such as x > 0",
        )
    return tensors


@operator(methods=())
def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """`input` where `condition` (bool) holds, `other` elsewhere."""
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
