from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special

ACTIVATIONS = {
    "RELU": lambda x, a, b: np.maximum(x, 0),
    "SIGMOID": lambda x, a, b: special.expit(x),
    "TANH": lambda x, a, b: np.tanh(x),
    "LEAKY_RELU": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ELU": lambda x, a, b: np.where(x >= 0, x, a * np.expm1(x)),
    "SELU": lambda x, a, b: b * np.where(x > 0, x, a * np.exp(x) - a),
    "SOFTSIGN": lambda x, a, b: x / (1 + np.abs(x)),
    "SOFTPLUS": lambda x, a, b: a * np.log1p(np.exp(b * x)),
    "CLIP": lambda x, a, b: np.maximum(a, np.minimum(b, x)),
    "HARD_SIGMOID": lambda x, a, b: np.maximum(0, np.minimum(1, a * x + b)),
    "SCALED_TANH": lambda x, a, b: a * np.tanh(b * x),
    "THRESHOLDED_RELU": lambda x, a, b: np.where(x > a, x, 0),
    "GELU_ERF": lambda x, a, b: 0.5 * x * (1 + special.erf(np.sqrt(0.5) * x)),
    "GELU_TANH": lambda x, a, b: (
        0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (0.044715 * x**3 + x)))
    ),
}


def test_every_activation_is_tested(rtx):
    assert set(rtx.trt.ActivationType.__members__) == set(ACTIVATIONS)


@pytest.mark.parametrize("op", ACTIVATIONS)
@pytest.mark.parametrize(("alpha", "beta"), [(0.25, 0.5), (1.5, -0.5)])
def test_activation(raw, op, alpha, beta):
    x = np.concatenate([np.linspace(-30, 30, 47), [0.0, -0.0, 0.25, 0.5]]).astype(np.float32)
    layer = raw.net.add_activation(raw.input(x), getattr(raw.trt.ActivationType, op))
    layer.alpha, layer.beta = alpha, beta
    expected = ACTIVATIONS[op](x.astype(np.float64), alpha, beta)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-14)


UNARY = {
    "EXP": np.exp,
    "LOG": np.log,
    "SQRT": np.sqrt,
    "RECIP": lambda x: 1 / x,
    "ABS": np.abs,
    "NEG": np.negative,
    "SIN": np.sin,
    "COS": np.cos,
    "TAN": np.tan,
    "SINH": np.sinh,
    "COSH": np.cosh,
    "ASIN": np.arcsin,
    "ACOS": np.arccos,
    "ATAN": np.arctan,
    "ASINH": np.arcsinh,
    "ACOSH": np.arccosh,
    "ATANH": np.arctanh,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "ERF": special.erf,
    "NOT": np.logical_not,
    "SIGN": np.sign,
    "ROUND": np.round,
    "ISINF": np.isinf,
    "ISNAN": np.isnan,
}


def test_every_unary_operation_is_tested(rtx):
    assert set(rtx.trt.UnaryOperation.__members__) == set(UNARY)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op", UNARY)
def test_unary(raw, op):
    x = np.array([-2.5, -1.5, -1, -0.5, 0, 0.3, 0.5, 1, 1.5, 2.5, 80, np.inf, -np.inf])
    x = np.append(x, np.nan) if op == "ISNAN" else x
    x = x > 0 if op == "NOT" else x.astype(np.float32)
    layer = raw.net.add_unary(raw.input(x), getattr(raw.trt.UnaryOperation, op))
    expected = UNARY[op](x if op == "NOT" else x.astype(np.float64))
    (found,) = raw.run(layer, float64=True)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


BINARY = {
    "SUM": np.add,
    "PROD": np.multiply,
    "MAX": np.maximum,
    "MIN": np.minimum,
    "SUB": np.subtract,
    "DIV": np.divide,
    "POW": np.power,
    "FLOOR_DIV": lambda a, b: np.floor(a / b),
    "AND": np.logical_and,
    "OR": np.logical_or,
    "XOR": np.logical_xor,
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "LESS": np.less,
}


def test_every_elementwise_operation_is_tested(rtx):
    assert set(rtx.trt.ElementWiseOperation.__members__) == set(BINARY)


@pytest.mark.parametrize("op", BINARY)
def test_elementwise_broadcasts(raw, rng, op):
    a = rng.uniform(0.1, 3, (2, 3, 1)).astype(np.float32)
    b = rng.uniform(-2, 2, (1, 3, 4)).astype(np.float32)
    b[0, :, 0] = a[0, :, 0]
    if op in ("AND", "OR", "XOR"):
        a, b = a > 1, b > 0
    operation = getattr(raw.trt.ElementWiseOperation, op)
    layer = raw.net.add_elementwise(raw.input(a), raw.input(b), operation)
    wide = (a, b) if a.dtype == bool else (a.astype(np.float64), b.astype(np.float64))
    expected = BINARY[op](*wide)
    (found,) = raw.run(layer, float64=True)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("DIV", [2, -2, -2, 2, 0]),
        ("FLOOR_DIV", [2, -3, -3, 2, 0]),
        ("SUM", [10, -4, 4, -10, 3]),
        ("PROD", [21, -21, -21, 21, 0]),
    ],
)
def test_integer_arithmetic(raw, dtype, op, expected):
    a, b = np.array([7, -7, 7, -7, 0], dtype), np.array([3, 3, -3, -3, 3], dtype)
    operation = getattr(raw.trt.ElementWiseOperation, op)
    layer = raw.net.add_elementwise(raw.input(a), raw.input(b), operation)
    (found,) = raw.run(layer)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_parametric_relu(raw, rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    slopes = rng.standard_normal(3).astype(np.float32)
    layer = raw.net.add_parametric_relu(raw.input(x), raw.const(slopes.reshape(1, 3, 1, 1)))
    expected = F.prelu(torch.from_numpy(x).double(), torch.from_numpy(slopes).double())
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)


def test_select(raw, rng):
    condition = rng.random((2, 1, 4)) > 0.5
    a, b = (rng.standard_normal((2, 3, 4)).astype(np.float16) for _ in range(2))
    layer = raw.net.add_select(raw.input(condition), raw.input(a), raw.input(b))
    np.testing.assert_array_equal(raw.run(layer)[0], np.where(condition, a, b))


@pytest.mark.parametrize(
    ("mode", "axis", "shape"),
    [
        ("UNIFORM", 1, ()),
        ("CHANNEL", 1, (3, 1, 1)),
        ("CHANNEL", 3, (5,)),
        ("ELEMENTWISE", 1, (3, 4, 5)),
    ],
)
@pytest.mark.parametrize("parts", ["scale", "shift", "scale shift power"])
def test_scale(raw, rng, mode, axis, shape, parts):
    x = rng.uniform(0.5, 2, (2, 3, 4, 5)).astype(np.float32)
    arrays = {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name in parts.split()}
    weights = [
        arrays[name].reshape(-1) if name in arrays else raw.trt.Weights()
        for name in ("shift", "scale", "power")
    ]
    layer = raw.net.add_scale_nd(
        raw.input(x), getattr(raw.trt.ScaleMode, mode), *weights, channel_axis=axis
    )
    wide = x.astype(np.float64)  # numpy 1 multiplies float32 arrays by float64 scalars in float32
    expected = wide * arrays.get("scale", 1) + arrays.get("shift", 0)
    expected = expected ** arrays.get("power", 1)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)
