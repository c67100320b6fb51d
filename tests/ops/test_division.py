"""Division, remainders, powers, limits and roundings against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import UnsupportedError

NUMERATORS = np.array(
    [[-7.5, -3, -0.5, -0.0, 0, 0.5, 1, 2, 7.25, 100.125, -1e6, np.inf, np.nan]], np.float32
)
DIVISORS = np.array([[2], [-2], [0.75], [-0.1], [0.1], [3], [-1e5], [np.inf], [0]], np.float32)
INTEGERS = np.array([[-7, -3, -1, 0, 1, 2, 5, 9, 2**30, -(2**30) + 1]])
INT_DIVISORS = np.array([[3], [-3], [1], [-2], [1000]])


@pytest.mark.parametrize(
    ("ours", "theirs"), [(ops.fmod, torch.fmod), (ops.remainder, torch.remainder)]
)
def test_remainders_of_floats(check: Any, ours: Any, theirs: Any) -> None:
    check(
        ours,
        theirs,
        NUMERATORS,
        DIVISORS,
        dynamic=[(1, "W"), ("H", 1)],
        through_torch=True,
        rtol64=1e-9,
    )


def test_floor_divide_of_floats(check: Any) -> None:
    finite = NUMERATORS[:, :-2]
    check(ops.floor_divide, torch.floor_divide, finite, DIVISORS, through_torch=True)
    for divisor in (0.5, 3, -0.75, -4):
        check(lambda x, d=divisor: x // d, lambda x, d=divisor: x // d, finite, through_torch=True)
        check(lambda x, d=divisor: x % d, lambda x, d=divisor: x % d, finite, through_torch=True)


def test_a_quotient_that_rounds_up_to_an_integer(check: Any) -> None:
    """1 / 0.1, rounded, is 10; but ten times float32's 0.1 is more than 1."""
    tenths = np.array([0.1, 0.2, 0.3, 0.7, 1 / 3], np.float32)
    values = np.array([[1], [2], [3], [-1], [0.9]], np.float32)
    for name in ("fmod", "remainder", "floor_divide"):
        theirs = getattr(torch, name)
        check(getattr(ops, name), theirs, values, tenths, through_torch=True)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
def test_div_of_integers(check: Any, dtype: Any, mode: Any) -> None:
    check(
        lambda a, b: ops.div(a, b, rounding_mode=mode),
        lambda a, b: torch.div(a, b, rounding_mode=mode),
        INTEGERS.astype(dtype),
        INT_DIVISORS.astype(dtype),
        through_torch=True,
        rtol64=1e-6,
    )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", ["fmod", "remainder", "floor_divide"])
def test_remainders_of_integers(check: Any, dtype: Any, name: str) -> None:
    a, b = INTEGERS.astype(dtype), INT_DIVISORS.astype(dtype)
    check(getattr(ops, name), getattr(torch, name), a, b, through_torch=True)
    check(lambda x: getattr(x, name)(-4), lambda x: getattr(x, name)(-4), a, through_torch=True)


def test_div_truncates(check: Any) -> None:
    check(
        lambda a, b: ops.div(a, b, rounding_mode="trunc"),
        lambda a, b: torch.div(a, b, rounding_mode="trunc"),
        NUMERATORS,
        DIVISORS[:3],
        through_torch=True,
    )


def test_large_integers_stay_exact(check: Any) -> None:
    """float32 holds integers up to 2^24 only."""
    values = np.array([2**24 + 1, -(2**40) - 1, 2**62 + 3])
    check(lambda x: x + 1, lambda x: x + 1, values, through_torch=True)
    check(lambda x: x // 3, lambda x: x // 3, values, through_torch=True)
    check(lambda x: x % 5, lambda x: x % 5, values, through_torch=True)
    check(lambda x: (x % 1000) ** 5, lambda x: (x % 1000) ** 5, values, through_torch=True)
    check(lambda x: ops.maximum(x, 0), lambda x: torch.clamp_min(x, 0), values)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -0.5, -1, -2, 1.7, 7])
def test_pow_of_floats(check: Any, exponent: float) -> None:
    values = np.array([[0.25, 1, 2.5, 7]], np.float32)
    tolerance = 1e-6 if exponent == 1.7 else 1e-10
    check(
        lambda x: ops.pow(x, exponent),
        lambda x: torch.pow(x, exponent),
        values,
        through_torch=True,
        rtol64=tolerance,
    )


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 6, 13, 2.0, 1.0])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_pow_of_integers(check: Any, exponent: float, dtype: Any) -> None:
    values = np.array([[-3, -1, 0, 2, 7, 11]], dtype)
    check(lambda x: x**exponent, lambda x: x**exponent, values, through_torch=True, rtol64=1e-6)


def test_powers_of_numbers(check: Any) -> None:
    check(lambda x: ops.pow(2, x), lambda x: torch.pow(2, x), (3, 4), through_torch=True)
    check(lambda x: ops.pow(2, x), lambda x: torch.pow(2, x), np.arange(9), through_torch=True)
    check(
        lambda x: ops.float_power(x, 2),
        lambda x: torch.float_power(x, 2).to(torch.float32),
        np.arange(9),
        through_torch=True,
    )


def test_pow_refuses_negative_powers_of_integers(net: Any, raises: Any) -> None:
    with raises(UnsupportedError, "negative power", "x.float()"):
        net.input("i", (2,), "int64") ** -1


@pytest.mark.parametrize("numbers", [(3, 0.5), (0.25, -2), (2, 7)])
def test_numbers_before_tensors(check: Any, numbers: Any) -> None:
    number, alpha = numbers
    for name in ("add", "sub", "mul", "div", "maximum"):
        ours, theirs = getattr(ops, name), getattr(torch, name)
        if name == "maximum":
            continue
        check(lambda x, f=ours: f(x, number), lambda x, f=theirs: f(x, number), (2, 3))
    check(lambda x: ops.mul(number, x), lambda x: torch.mul(number, x), (2, 3))
    check(
        lambda x: ops.rsub(x, number, alpha=alpha),
        lambda x: torch.rsub(x, number, alpha=alpha),
        (2, 3),
        through_torch=True,
    )
    check(
        lambda x: ops.add(x, number, alpha=alpha),
        lambda x: torch.add(x, number, alpha=alpha),
        (2, 3),
        through_torch=True,
    )


def test_booleans(check: Any) -> None:
    a, b = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    check(lambda a, b: a + b, lambda a, b: a + b, a, b, through_torch=True)
    check(lambda a, b: a * b, lambda a, b: a * b, a, b, through_torch=True)
    check(ops.maximum, torch.maximum, a, b, through_torch=True)
    check(ops.minimum, torch.minimum, a, b, through_torch=True)
    check(ops.lt, torch.lt, a, b, through_torch=True)
    check(ops.ge, torch.ge, a, b, through_torch=True)


def test_booleans_are_not_subtracted(net: Any, raises: Any) -> None:
    flags = net.input("flags", (2,), "bool")
    with raises(UnsupportedError, "booleans", "a ^ b"):
        flags - flags


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
@pytest.mark.parametrize(("low", "high"), [(-1, 2), (2, -1), (None, 1), (-2, None), (-0.5, 1.5)])
def test_clamp(check: Any, low: Any, high: Any, dtype: Any) -> None:
    values = np.arange(-5, 6).astype(dtype)
    check(
        lambda x: ops.clamp(x, low, high),
        lambda x: torch.clamp(x, low, high),
        values,
        through_torch=True,
    )
    if low is not None:
        check(
            lambda x: ops.clamp_min(x, low),
            lambda x: torch.clamp_min(x, low),
            values,
            through_torch=True,
        )
    if high is not None:
        check(
            lambda x: ops.clamp_max(x, high),
            lambda x: torch.clamp_max(x, high),
            values,
            through_torch=True,
        )


def test_clamp_with_tensors_and_without_bounds(check: Any, net: Any, raises: Any) -> None:
    check(lambda x, a: x.clip(max=a), lambda x, a: x.clamp(max=a), (3, 4), (4,), through_torch=True)
    check(ops.clamp_min, torch.clamp_min, (3, 4), (3, 1), through_torch=True)
    with raises(UnsupportedError, "neither min nor max"):
        net.input("x", (2,)).clamp()


@pytest.mark.parametrize("decimals", [0, 1, 3, -2])
def test_round_to_decimals(check: Any, decimals: int) -> None:
    values = np.array([[0.0625, 123.4375, -0.5, 1.5, 2.5, 149.96875]], np.float32)
    check(
        lambda x: ops.round(x, decimals=decimals),
        lambda x: torch.round(x, decimals=decimals),
        values,
        through_torch=True,
    )


def test_integers_have_no_decimals(net: Any, raises: Any) -> None:
    with raises(UnsupportedError, "round: decimals of integers"):
        ops.round(net.input("i", (2,), "int64"), decimals=-1)


def test_trunc(check: Any) -> None:
    values = np.array([[-2.5, -0.5, -0.0, 0.5, 7.75, np.inf, np.nan]], np.float32)
    check(ops.trunc, torch.trunc, values, dynamic=[("N", None)], through_torch=True)
    check(ops.trunc, torch.trunc, INTEGERS, through_torch=True)


def test_where_as_a_method(check: Any) -> None:
    flags = np.array([[True], [False]])
    check(lambda c, a, b: a.where(c, b), lambda c, a, b: torch.where(c, a, b), flags, (2, 3), (3,))
    check(lambda c: ops.where(c, 2, 0.5), lambda c: torch.where(c, 2, 0.5), flags)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(check: Any, precision: str) -> None:
    tolerance = {"fp16": 2e-3, "bf16": 2e-2}[precision]
    options = {"precision": precision, "rtol": tolerance, "rtol64": tolerance}
    values = np.array([[1, 2, 7.5, 100, 1000]], np.float32)
    check(lambda x: (x * 1) % 3, lambda x: x % 3, values, **options)
    check(lambda x: (x * 1) // 3, lambda x: x // 3, values, **options)
