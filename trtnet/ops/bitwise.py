"""Bitwise operators. TensorRT has none on integers: they are computed exactly from the bits, which
divisions by powers of two give; masks and shifts that are known cost one or two layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32
from trtnet.errors import UnsupportedError
from trtnet.ops.division import floor_divide, remainder
from trtnet.ops.elementwise import (
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    mul,
    neg,
    square,
    sub,
    where,
)
from trtnet.ops.operands import broadcast_ranks, insert_axes, mask, same_type
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=("bitwise_and", "__and__", "__rand__"))
def bitwise_and(input: Any, other: Any) -> Tensor:
    """``input & other``, of integers or booleans, here and below.

    Raises:
        UnsupportedError: floating-point tensors, as in PyTorch.
    """
    a, b = _integers("bitwise_and", input, other)
    if a.dtype is DType.BOOL:
        return logical_and(a, b)
    if _is_low_mask(other):
        return remainder(a, other + 1) if other else mul(a, 0)
    return _bit_by_bit(a, b, mul)


@operator(methods=("bitwise_or", "__or__", "__ror__"))
def bitwise_or(input: Any, other: Any) -> Tensor:
    """``input | other``."""
    a, b = _integers("bitwise_or", input, other)
    return logical_or(a, b) if a.dtype is DType.BOOL else _bit_by_bit(a, b, maximum)


@operator(methods=("bitwise_xor", "__xor__", "__rxor__"))
def bitwise_xor(input: Any, other: Any) -> Tensor:
    """``input ^ other``."""
    a, b = _integers("bitwise_xor", input, other)
    if a.dtype is DType.BOOL:
        return logical_xor(a, b)
    return _bit_by_bit(a, b, lambda x, y: square(sub(x, y)))


@operator(methods=("bitwise_not", "__invert__"))
def bitwise_not(input: Tensor) -> Tensor:
    """``~input``."""
    (x,) = _integers("bitwise_not", input)
    if x.dtype is DType.BOOL:
        return logical_not(x)
    if x.dtype is DType.UINT8:
        return sub(255, x.to(int32)).to(DType.UINT8)
    return sub(neg(x), 1)


@operator(methods=("bitwise_left_shift", "__lshift__"))
def bitwise_left_shift(input: Tensor, other: Any) -> Tensor:
    """``input << other``; bits that leave are lost.

    Raises:
        UnsupportedError: a number of bits that is no int, as below.
    """
    x, bits = _shifted("bitwise_left_shift", input, other)
    if other >= bits:
        return mul(x, 0)
    factor = 2**other if other < bits - 1 else -(2**other)  # the sign bit's value
    return mul(x, factor)


@operator(methods=("bitwise_right_shift", "__rshift__"))
def bitwise_right_shift(input: Tensor, other: Any) -> Tensor:
    """``input >> other``; the sign is kept."""
    x, bits = _shifted("bitwise_right_shift", input, other)
    if other >= bits - 1:
        return where(lt(x, 0), x.network.constant(-1, x.dtype), x.network.constant(0, x.dtype))
    return floor_divide(x, 2**other)


def _integers(op: str, *values: Any) -> list[Tensor]:
    tensors = same_type(*values)
    if tensors[0].dtype.element.kind == "float":
        raise UnsupportedError(
            f"{op}: needs integers or booleans",
            got=tensors[0].dtype,
            fix="compare first, such as x > 0",
        )
    return tensors


def _shifted(op: str, x: Tensor, count: Any) -> tuple[Tensor, int]:
    """The tensor to shift, and how many bits it has."""
    if not isinstance(count, int) or count < 0:
        raise UnsupportedError(
            f"{op}: the number of bits must be known", expected="an int of at least 0", got=count
        )
    if x.dtype not in (DType.INT32, DType.INT64):
        raise UnsupportedError(f"{op}: needs int32 or int64", got=x.dtype, fix="x.int()")
    return x, x.dtype.element.bits


def _is_low_mask(value: Any) -> bool:
    """Whether `value` is a number whose set bits are the lowest ones, such as 7; ``x & 7`` is
    ``x % 8``."""
    return isinstance(value, int) and 0 <= value < 2**31 - 1 and value & (value + 1) == 0


def _bit_by_bit(a: Tensor, b: Tensor, combine: Any) -> Tensor:
    """``combine`` of all bits, each 0 or 1, of two integer tensors: the bits lie along a new last
    axis."""
    dtype, network = a.dtype, a.network
    if dtype in (DType.INT8, DType.UINT8):
        return _bit_by_bit(a.to(int32), b.to(int32), combine).to(dtype)
    a, b = broadcast_ranks([a, b])
    count = dtype.element.bits
    steps = [2**i for i in range(count - 1)]
    first = np.array([*steps, steps[-1]], dtype.value)  # 2^63 is no int64: two divisions
    second = np.array([1] * (count - 1) + [2], dtype.value)

    def bits(x: Tensor) -> Tensor:
        wide = insert_axes(x, [x.ndim])
        return remainder(floor_divide(floor_divide(wide, first), second), 2)

    values = np.array([*steps, -(2 ** (count - 1))], dtype.value)  # two's complement
    terms = mul(combine(bits(a), bits(b)), values)
    return network.emit(
        "bitwise",
        "add_reduce",
        terms,
        network.trt.ReduceOperation.SUM,
        mask([a.ndim]),
        False,
        dims=terms.shape[:-1],
    )
