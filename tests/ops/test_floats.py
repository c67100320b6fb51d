"""Signs, NaN, infinities, logarithms, trigonometry and bits against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import UnsupportedError

EXTREMES = np.array(
    [[0.0, -0.0, 1.5, -1.5, 1e-30, -1e-30, np.inf, -np.inf, np.nan, 3e38, -7]], np.float32
)
SMALL = np.array([[0.0, -0.0, 1e-8, -1e-8, 3e-5, -2e-4, 0.49, 0.51, -0.49, -0.51]], np.float32)
BITS = np.array([[0, 1, -1, 2, 5, -6, 77, 2**31 - 1, -(2**31)]], np.int64)


@pytest.mark.parametrize(
    "name",
    [
        *("isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "sgn", "real"),
        *("positive", "conj", "logical_not"),
    ],
)
def test_unary(check: Any, name: str) -> None:
    ours, theirs = getattr(ops, name), getattr(torch, name)
    check(ours, theirs, EXTREMES[:, :-3] if name == "sgn" else EXTREMES, through_torch=True)
    check(ours, theirs, BITS, dynamic=[(1, "N")], through_torch=True)


def names_used() -> tuple[Any, ...]:
    """The functions that the tests above and below look up by name."""
    return (
        *(ops.isnan, ops.isinf, ops.isfinite, ops.isposinf, ops.isneginf, ops.signbit, ops.sgn),
        *(ops.real, ops.positive, ops.conj, ops.fmax, ops.fmin, ops.copysign, ops.atan2),
        *(ops.hypot, ops.logaddexp, ops.logaddexp2, ops.xlogy, ops.asin, ops.acos, ops.atan),
        *(ops.tan, ops.sinh, ops.cosh, ops.asinh, ops.acosh, ops.atanh, ops.expm1, ops.log1p),
        *(ops.exp2, ops.log2, ops.log10, ops.erfc, ops.sinc, ops.deg2rad, ops.rad2deg),
        *(ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor, ops.bitwise_not),
        *(ops.addcmul, ops.addcdiv, ops.lerp, ops.clamp_min, ops.clamp_max),
    )


def test_every_name_is_an_operator() -> None:
    assert all(getattr(ops, function.__name__) is function for function in names_used())


@pytest.mark.parametrize(
    "name", ["fmax", "fmin", "copysign", "atan2", "hypot", "logaddexp", "logaddexp2", "xlogy"]
)
def test_binary_of_extremes(check: Any, name: str) -> None:
    values = EXTREMES if name != "xlogy" else np.abs(EXTREMES)
    check(
        getattr(ops, name),
        getattr(torch, name),
        values,
        np.ascontiguousarray(values.T),
        dynamic=[(1, "W"), ("H", 1)],
        through_torch=True,
    )
    check(getattr(ops, name), getattr(torch, name), (5, 1, 7), (4, 1), through_torch=True)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_nan_is_never_the_smaller_one(net: Any, check: Any, name: str) -> None:
    """TensorRT's MIN and MAX give the other operand: the network chooses NaN by itself."""
    values = np.array([[np.nan, 1, np.inf, np.nan]], np.float32)
    others = np.array([[0], [np.nan]], np.float32)
    check(getattr(ops, name), getattr(torch, name), values, others, through_torch=True)
    check(lambda x: getattr(ops, name)(x, 0.5), lambda x: getattr(torch, name)(
        x, torch.tensor(0.5).to(x.dtype)), values)  # fmt: skip
    x, i = net.input("x", (2,)), net.input("i", (2,), "int32")
    getattr(ops, name)(x, x)
    getattr(ops, name)(i, i)
    layers = [net.definition.get_layer(n) for n in range(net.definition.num_layers)]
    assert [layer.type.name for layer in layers].count("SELECT") == 2


@pytest.mark.parametrize("name", ["atan2", "copysign"])
def test_arrays(check: Any, name: str) -> None:
    check(
        lambda x: getattr(ops, name)(x, torch.ones(1).numpy()),
        lambda x: getattr(torch, name)(x, torch.ones(1).to(x.dtype)),
        (3, 4),
    )


@pytest.mark.parametrize("name", ["tan", "sinh", "cosh", "asinh", "atan", "sinc"])
def test_functions_of_any_number(check: Any, name: str) -> None:
    check(
        getattr(ops, name), getattr(torch, name), (3, 5), dynamic=[("N", None)], through_torch=True
    )
    check(getattr(ops, name), getattr(torch, name), SMALL, through_torch=True)
    check(getattr(ops, name), getattr(torch, name), np.arange(-2, 3), rtol64=1e-6)


@pytest.mark.parametrize("name", ["asin", "acos", "atanh", "acosh"])
def test_inverse_functions(check: Any, name: str) -> None:
    values = np.array([[-1, -0.75, -1e-4, 0, 0.5, 1, 1.5, 20]], np.float32)
    check(getattr(ops, name), getattr(torch, name), values, through_torch=True)


@pytest.mark.parametrize("name", ["deg2rad", "rad2deg", "exp2", "erfc", "erf", "exp"])
def test_scales_and_bases(check: Any, name: str) -> None:
    check(getattr(ops, name), getattr(torch, name), (3, 4), dynamic=[("N", 4)], through_torch=True)


@pytest.mark.parametrize("name", ["log1p", "expm1", "log2", "log10"])
def test_digits_near_zero_and_one(check: Any, name: str) -> None:
    """Relative to each value, not only to the largest one."""
    values = SMALL if name in ("log1p", "expm1") else np.abs(SMALL) + 1e-6
    for value in values[0]:
        array = np.array([value, value], np.float32)
        check(getattr(ops, name), getattr(torch, name), array, rtol64=1e-9, build=False)
    large = np.array([[-1, -0.999, -2, 3, 80, 1e30, np.inf, -np.inf, np.nan]], np.float32)
    check(getattr(ops, name), getattr(torch, name), large, through_torch=True)


def test_log_and_exp_in_half_precision(check: Any) -> None:
    """1 + x loses small x in FP16."""
    values = np.array([[1e-4, 3e-4, -2e-4, 5e-4]], np.float32)
    options: Any = {"precision": "fp16", "rtol": 2e-3, "rtol64": 2e-3}
    check(lambda x: ops.log1p(x * 1), torch.log1p, values, **options)
    check(lambda x: ops.expm1(x * 1), torch.expm1, values, **options)


def test_logit(check: Any) -> None:
    values = np.array([[0, 0.001, 0.25, 0.5, 0.875, 1]], np.float32)
    check(ops.logit, torch.logit, values, through_torch=True)
    check(
        lambda x: ops.logit(x, 0.0625),
        lambda x: torch.logit(x, 0.0625),
        values,
        through_torch=True,
    )


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("lerp", ((3, 4), (4,), (3, 1))), ("addcmul", ((3, 4), (4,), (3, 1)))],
)
def test_ternary(check: Any, name: str, shapes: Any) -> None:
    check(getattr(ops, name), getattr(torch, name), *shapes, through_torch=True)


def test_ternary_with_numbers(check: Any) -> None:
    check(
        lambda a, b: ops.lerp(a, b, 0.75),
        lambda a, b: torch.lerp(a, b, 0.75),
        (3,),
        (2, 3),
        through_torch=True,
    )
    check(
        lambda a, b, c: ops.addcmul(a, b, c, value=0.5),
        lambda a, b, c: torch.addcmul(a, b, c, value=0.5),
        *((3,), (2, 3), (2, 1)),
        through_torch=True,
    )
    check(
        lambda a, b, c: ops.addcdiv(a, b, c, value=-2),
        lambda a, b, c: torch.addcdiv(a, b, c, value=-2),
        *((3,), (2, 3), (2, 1)),
        through_torch=True,
    )


def test_nan_to_num(check: Any) -> None:
    check(
        lambda x: ops.nan_to_num(x, 2.5, 7, -8),
        lambda x: torch.nan_to_num(x, 2.5, 7, -8),
        EXTREMES,
        through_torch=True,
    )
    check(lambda x: ops.nan_to_num(x)[:, :7], lambda x: torch.nan_to_num(x.float())[:, :7].to(
        x.dtype), EXTREMES)  # fmt: skip
    check(ops.nan_to_num, torch.nan_to_num, BITS, through_torch=True)


def test_frac_and_heaviside(check: Any, net: Any, raises: Any) -> None:
    values = np.array([[-2.75, -0.5, 0, 0.5, 7.75]], np.float32)
    check(ops.frac, torch.frac, values, through_torch=True)
    check(ops.heaviside, torch.heaviside, EXTREMES, np.array([0.5], np.float32), through_torch=True)
    check(ops.heaviside, torch.heaviside, BITS, np.array([3]), through_torch=True)
    with raises(UnsupportedError, "frac", "floating-point"):
        ops.frac(net.input("i", (2,), "int64"))


@pytest.mark.parametrize("equal_nan", [False, True])
def test_isclose(check: Any, equal_nan: bool) -> None:
    a = np.array([1, 1, 1, np.inf, np.inf, np.nan, np.nan, 0], np.float32)
    b = np.array([1, 1.125, 1.001, np.inf, -np.inf, np.nan, 1, 1e-9], np.float32)
    check(
        lambda a, b: ops.isclose(a, b, rtol=0.0625, equal_nan=equal_nan),
        lambda a, b: torch.isclose(a, b, rtol=0.0625, equal_nan=equal_nan),
        *(a, b),
        through_torch=True,
    )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits(check: Any, name: str, dtype: Any) -> None:
    others = np.array([[0], [1], [-1], [6], [-128], [2**31 - 1], [-(2**31)]])
    check(
        getattr(ops, name),
        getattr(torch, name),
        BITS.astype(dtype),
        others.astype(dtype),
        dynamic=[(1, "W"), ("H", 1)],
        through_torch=True,
    )
    limits = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, -7], dtype)
    check(getattr(ops, name), getattr(torch, name), limits, limits[::-1].copy())
    for number in (0, 1, 7, 8, 255, -2):
        check(
            lambda x, n=number: getattr(ops, name)(x, n),
            lambda x, n=number: getattr(torch, name)(x, n),
            BITS.astype(dtype),
            build=False,
        )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_python_operators_on_bits(check: Any, dtype: Any) -> None:
    values = BITS.astype(dtype)
    for function in (
        lambda x: ~x,
        lambda x: x & 6,
        lambda x: 6 & x,
        lambda x: x | 1,
        lambda x: 1 | x,
        lambda x: x ^ 3,
        lambda x: 3 ^ x,
        lambda x: x << 3,
        lambda x: x >> 2,
        lambda x: x >> 31,
        lambda x: x << 31,
    ):
        check(function, function, values, through_torch=True, build=False)
    check(ops.bitwise_not, torch.bitwise_not, values, through_torch=True)
    check(lambda x: ops.bitwise_left_shift(x, 5), lambda x: torch.bitwise_left_shift(x, 5), values)
    check(
        lambda x: ops.bitwise_right_shift(x, 5), lambda x: torch.bitwise_right_shift(x, 5), values
    )


def test_bits_of_booleans(check: Any) -> None:
    a, b = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        check(getattr(ops, name), getattr(torch, name), a, b, through_torch=True)
    check(lambda a: ~a, lambda a: ~a, a, through_torch=True)
    check(lambda a: a & True, lambda a: a & True, a, through_torch=True)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_logic_of_numbers(check: Any, name: str) -> None:
    values, others = EXTREMES, np.array([[0.0], [2.5]], np.float32)
    check(getattr(ops, name), getattr(torch, name), values, others, through_torch=True)
    check(getattr(ops, name), getattr(torch, name), BITS, others.astype(np.int64))


def test_errors(net: Any, raises: Any) -> None:
    x, i = net.input("x", (2, 3)), net.input("i", (2, 3), "int32")
    with raises(UnsupportedError, "bitwise_not: needs integers", "x > 0"):
        ops.bitwise_not(x)
    with raises(UnsupportedError, "bitwise_left_shift", "at least 0"):
        ops.bitwise_left_shift(i, i)
    with raises(UnsupportedError, "bitwise_right_shift", "-1"):
        ops.bitwise_right_shift(i, -1)
