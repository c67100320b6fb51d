"""Elementwise operations and activations against PyTorch."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

TF = torch.nn.functional

ODD = (3, 1, 7)
SPECIAL = np.array([[0.0, -0.0, 1.5, -1.5, 2.5, -2.5, 0.5, -0.5, 1e-30, 80.0, -80.0]], np.float32)
MIXED = np.array([[-7, -3, -1, 0, 1, 2, 5, 9]], np.int64)


def positive(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.05, 4, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (ops.abs, torch.abs, SPECIAL),
        (ops.neg, torch.neg, SPECIAL),
        (ops.sign, torch.sign, SPECIAL),
        (ops.exp, torch.exp, SPECIAL),
        (ops.log, torch.log, positive(1, 9)),
        (ops.sqrt, torch.sqrt, positive(1, 9)),
        (ops.rsqrt, torch.rsqrt, positive(1, 9)),
        (ops.reciprocal, torch.reciprocal, positive(1, 9)),
        (ops.square, torch.square, SPECIAL),
        (ops.erf, torch.erf, SPECIAL),
        (ops.sin, torch.sin, SPECIAL),
        (ops.cos, torch.cos, SPECIAL),
        (ops.floor, torch.floor, SPECIAL),
        (ops.ceil, torch.ceil, SPECIAL),
        (ops.round, torch.round, SPECIAL),
    ],
)
def test_unary(check: Any, ours: Any, theirs: Any, values: np.ndarray) -> None:
    check(ours, theirs, values, dynamic=[("N", "C")], through_torch=True)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.abs, torch.abs),
        (ops.neg, torch.neg),
        (ops.sign, torch.sign),
        (ops.floor, torch.floor),
        (ops.ceil, torch.ceil),
        (ops.round, torch.round),
        (ops.exp, torch.exp),
        (ops.square, torch.square),
        (ops.relu, torch.relu),
    ],
)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_unary_of_integers(check: Any, ours: Any, theirs: Any, dtype: Any) -> None:
    check(ours, theirs, MIXED.astype(dtype), rtol64=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.relu, torch.relu),
        (ops.relu6, TF.relu6),
        (ops.hardtanh, TF.hardtanh),
        (lambda x: ops.hardtanh(x, -2, 0.5), lambda x: TF.hardtanh(x, -2, 0.5)),
        (ops.leaky_relu, TF.leaky_relu),
        (lambda x: ops.leaky_relu(x, 0.3), lambda x: TF.leaky_relu(x, 0.3)),
        (ops.elu, TF.elu),
        (lambda x: ops.elu(x, 1.7), lambda x: TF.elu(x, 1.7)),
        (ops.selu, TF.selu),
        (ops.sigmoid, torch.sigmoid),
        (ops.tanh, torch.tanh),
        (ops.silu, TF.silu),
        (ops.gelu, TF.gelu),
        (lambda x: ops.gelu(x, "tanh"), lambda x: TF.gelu(x, approximate="tanh")),
        (ops.hardsigmoid, TF.hardsigmoid),
        (ops.hardswish, TF.hardswish),
        (ops.softplus, TF.softplus),
        (lambda x: ops.softplus(x, 3, 2), lambda x: TF.softplus(x, 3, 2)),
        (lambda x: ops.softplus(x, 0.5, 1), lambda x: TF.softplus(x, 0.5, 1)),
        (ops.mish, TF.mish),
        (ops.softsign, TF.softsign),
    ],
)
def test_activations(check: Any, ours: Any, theirs: Any) -> None:
    """Slopes and bounds are float32 attributes of the layer: hence 1e-7."""
    check(ours, theirs, SPECIAL, dynamic=[("N", 11)], rtol64=1e-7)
    check(ours, theirs, ODD, dynamic=[("N", 1, None)], rtol64=1e-7, build=False)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3), (2, 5, 3, 2)])
def test_prelu(check: Any, count: int, shape: tuple[int, ...]) -> None:
    slopes = np.linspace(-0.5, 0.5, count, dtype=np.float32)
    check(
        lambda x: ops.prelu(x, slopes),
        lambda x: TF.prelu(x, torch.from_numpy(slopes).to(x.dtype)),
        shape,
        dynamic=[("N", *shape[1:])],
    )


def test_prelu_refuses_slopes_that_do_not_fit(net: Any, raises: Any) -> None:
    x = net.input("x", (1, 4, 2))
    with raises(ShapeError, "1 or 4", "got: 3"):
        ops.prelu(x, np.ones(3, np.float32))


BROADCASTS = [
    (((3, 1, 7), (3, 5, 7)), [("N", 1, None), ("N", 5, "W")]),
    (((5,), (2, 3, 5)), [(None,), ("N", "C", None)]),
    (((4, 1), (1, 6)), [("A", 1), (1, "B")]),
    (((), (2, 3)), [(), ("N", 3)]),
]


@pytest.mark.parametrize(("shapes", "dynamic"), BROADCASTS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.add, torch.add),
        (ops.sub, torch.sub),
        (ops.mul, torch.mul),
        (ops.div, torch.div),
        (ops.maximum, torch.maximum),
        (ops.minimum, torch.minimum),
        (ops.lt, torch.lt),
        (ops.le, torch.le),
        (ops.gt, torch.gt),
        (ops.ge, torch.ge),
        (ops.eq, torch.eq),
        (ops.ne, torch.ne),
    ],
)
def test_binary_broadcasts(check: Any, ours: Any, theirs: Any, shapes: Any, dynamic: Any) -> None:
    check(ours, theirs, *shapes, dynamic=dynamic, build=shapes == BROADCASTS[0][0])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.add, torch.add),
        (ops.sub, torch.sub),
        (ops.mul, torch.mul),
        (ops.div, torch.div),
        (ops.floor_divide, torch.floor_divide),
        (ops.remainder, torch.remainder),
        (ops.maximum, torch.maximum),
        (ops.minimum, torch.minimum),
        (ops.lt, torch.lt),
        (ops.le, torch.le),
        (ops.eq, torch.eq),
        (ops.ne, torch.ne),
    ],
)
def test_binary_of_integers(check: Any, ours: Any, theirs: Any, dtype: Any) -> None:
    divisors = np.array([[3], [-3], [1], [-2]], dtype)
    check(ours, theirs, MIXED.astype(dtype), divisors, rtol64=1e-6)


def test_floor_divide_and_remainder_of_floats(check: Any) -> None:
    a = np.array([[-7.5, -3, -0.5, 0.5, 2, 7.25]], np.float32)
    b = np.array([[2], [-2], [0.75]], np.float32)
    check(ops.floor_divide, torch.floor_divide, a, b)
    check(ops.remainder, torch.remainder, a, b)
    check(
        lambda a, b: ops.div(a, b, rounding_mode="floor"),
        lambda a, b: torch.div(a, b, rounding_mode="floor"),
        a,
        b,
    )


def test_comparisons_with_nan(check: Any) -> None:
    values = np.array([1.0, np.nan, 2.0, np.nan, np.inf, -np.inf], np.float32)
    others = np.array([1.0, 1.0, np.nan, np.nan, np.inf, np.inf], np.float32)
    pairs = [
        (ops.lt, torch.lt),
        (ops.le, torch.le),
        (ops.gt, torch.gt),
        (ops.ge, torch.ge),
        (ops.eq, torch.eq),
        (ops.ne, torch.ne),
    ]
    for ours, theirs in pairs:
        check(ours, theirs, values, others)


def test_logic(check: Any) -> None:
    a = np.array([[True, True, False, False]])
    b = np.array([[True, False, True, False]])
    check(ops.logical_and, torch.logical_and, a, b)
    check(ops.logical_or, torch.logical_or, a, b)
    check(ops.logical_xor, torch.logical_xor, a, b)
    check(ops.logical_not, torch.logical_not, a)
    check(ops.eq, torch.eq, a, b)
    check(ops.ne, torch.ne, a, b)
    check(lambda a, b: (a & ~b) | (a ^ b), lambda a, b: (a & ~b) | (a ^ b), a, b)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1, lambda x: 1 + x, lambda x: x - 2.5, lambda x: 2.5 - x, lambda x: x * 3,
        lambda x: 3 * x, lambda x: x / 2, lambda x: 2 / x, lambda x: x // 2, lambda x: 7 // x,
        lambda x: x % 3, lambda x: x % -3, lambda x: -x, lambda x: abs(x), lambda x: x > 1,
        lambda x: x >= 1.5, lambda x: x < 2, lambda x: x <= 2, lambda x: x**2,
        lambda x: x**3, lambda x: 2**x, lambda x: x + True, lambda x: (x > 1) * x,
        lambda x: (x > 1) + (x > 2).float(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32])
def test_operators_with_numbers(check: Any, function: Any, dtype: Any) -> None:
    check(function, function, np.array([[1, 2, 3, 5]], dtype), rtol64=1e-6)


@pytest.mark.parametrize(
    "types",
    [
        (np.float32, np.int64), (np.int32, np.int64), (np.bool_, np.int64), (np.bool_, np.float32),
        (np.int32, np.float32), (np.float16, np.float32), (np.float16, np.int64),
    ],
)  # fmt: skip
@pytest.mark.parametrize("function", [operator.add, operator.mul, ops.maximum, ops.eq])
def test_promotion(check: Any, types: tuple[Any, Any], function: Any) -> None:
    theirs = {ops.maximum: torch.maximum, ops.eq: torch.eq}.get(function, function)
    left, right = np.array([[0, 1, 1]]).astype(types[0]), np.array([[1], [2]]).astype(types[1])
    check(function, theirs, left, right, rtol64=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        np.array([1.5, 2.5], np.float64), np.array([1, 2], np.int64), np.float32(0.5),
        np.array([True, False]), np.int64(3), np.array([[1.5], [2.5]], np.float32),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_arrays_as_operands(check: Any, other: Any, dtype: Any) -> None:
    """A float64 array is taken as float32: that is what weights are stored in."""
    values = np.array([[1, 2], [3, 4]], dtype)
    narrow = np.asarray(other, np.float32) if np.asarray(other).dtype.kind == "f" else other
    theirs = torch.as_tensor(narrow)
    check(
        lambda x: x + other,
        lambda x: x + theirs.to(x.dtype if x.dtype == torch.float64 else theirs.dtype),
        values,
    )
    check(
        lambda x: other * x,
        lambda x: x * theirs.to(x.dtype if x.dtype == torch.float64 else theirs.dtype),
        values,
    )


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, 1.5])
def test_pow(check: Any, exponent: float) -> None:
    check(lambda x: ops.pow(x, exponent), lambda x: torch.pow(x, exponent), positive(2, 5))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_pow_of_negative_and_integer_bases(check: Any, exponent: int) -> None:
    values = np.array([[-3, -1, 0, 2, 7]])
    check(lambda x: x**exponent, lambda x: x**exponent, values.astype(np.float32))
    check(lambda x: x**exponent, lambda x: x**exponent, values)


def test_pow_with_a_tensor_exponent(check: Any) -> None:
    check(ops.pow, torch.pow, positive(3, 4), (3, 4))
    check(lambda x: 2.0**x, lambda x: 2.0**x, (3, 4))


@pytest.mark.parametrize(
    ("low", "high"), [(-0.5, 0.5), (None, 0.25), (-0.25, None), (0.5, -0.5), (-np.inf, 0.5), (0, 1)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_clamp(check: Any, low: Any, high: Any, dtype: Any) -> None:
    values = (np.arange(-6, 7)[None] / (4 if dtype is np.float32 else 1)).astype(dtype)
    check(lambda x: ops.clamp(x, low, high), lambda x: torch.clamp(x, low, high), values)


def test_clamp_with_tensors(check: Any) -> None:
    check(lambda x, a, b: x.clamp(a, b), lambda x, a, b: x.clamp(a, b), (3, 4), (4,), (3, 1))


def test_add_and_sub_with_alpha(check: Any) -> None:
    check(lambda a, b: ops.add(a, b, alpha=2), lambda a, b: torch.add(a, b, alpha=2), (3,), (3,))
    check(
        lambda a, b: ops.sub(a, b, alpha=0.5), lambda a, b: torch.sub(a, b, alpha=0.5), (3,), (3,)
    )


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (1, 0), (0.5, 2), (2, 0.5), (True, False)])
def test_where_with_numbers(check: Any, a: Any, b: Any) -> None:
    check(lambda x: ops.where(x > 0, a, b), lambda x: torch.where(x > 0, a, b), (2, 5))


def test_where_broadcasts_and_promotes(check: Any) -> None:
    mask = np.array([[True], [False]])
    check(ops.where, torch.where, mask, (3,), (2, 1), dynamic=[("N", 1), ("W",), ("N", None)])
    check(lambda m, x: ops.where(m, x, 2), lambda m, x: torch.where(m, x, 2), mask, (2, 3))
    check(ops.where, torch.where, mask, np.array([1, 2]), (2, 2))
    pick = np.array([[1.5, 2.5]], np.float32)
    check(
        lambda m: ops.where(m, pick, pick + 1),
        lambda m: torch.where(m, torch.tensor(pick), torch.tensor(pick + 1)),
        mask,
    )


def test_where_with_numbers_adds_no_cast(net: Any) -> None:
    ops.where(net.input("x", (2,)) > 0, 1.0, 0.0)
    kinds = [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]
    assert "CAST" not in kinds


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_softmax_over_every_axis(check: Any, shape: tuple[int, ...]) -> None:
    for axis in range(-1, len(shape) - 1):
        options = {"dynamic": [tuple(f"d{i}" for i in range(len(shape)))]}
        check(lambda x, d=axis: ops.softmax(x, d), lambda x, d=axis: x.softmax(d), shape, **options)
        check(lambda x, d=axis: ops.log_softmax(x, d), lambda x, d=axis: x.log_softmax(d), shape)


def test_log_softmax_of_extreme_values(check: Any) -> None:
    values = np.array([[1e4, -1e4, 0], [88, 89, 90], [-1e30, 0, 1e30]], np.float32)
    check(lambda x: ops.log_softmax(x, 1), lambda x: x.log_softmax(1), values)
    check(lambda x: ops.softmax(x, 1), lambda x: x.softmax(1), values)


def test_errors(net: Any, raises: Any) -> None:
    x, flags = net.input("x", (2, 3)), net.input("flags", (2, 3), "bool")
    with raises(ShapeError, "shapes do not broadcast", "(2, 3) and (2, 4)"):
        x + net.input("y", (2, 4))
    with raises(UnsupportedError, "rounding_mode='up'", "floor"):
        ops.div(x, 2, rounding_mode="up")
    with raises(UnsupportedError, "approximate='sin'"):
        ops.gelu(x, "sin")
    with raises(UnsupportedError, "boolean", "x > 0"):
        x & flags
    with raises(ShapeError, "softmax: dim is out of range", "-2 to 1"):
        ops.softmax(x, 2)


def test_on_the_host_they_are_pytorchs() -> None:
    made: Any = ops.add(np.arange(3.0), 2)
    assert torch.equal(made, torch.arange(3, dtype=torch.float64) + 2)
    assert torch.equal(ops.relu(torch.tensor([-1, 2])), torch.tensor([0, 2]))
