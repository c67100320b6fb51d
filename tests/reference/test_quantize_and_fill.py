from __future__ import annotations

import numpy as np
import pytest
import torch

# Halves that must go to even, values beyond the range, and both signs.
VALUES = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 300, -128.5, -300], np.float32)


def test_quantize_rounds_half_to_even_and_saturates(raw):
    layer = raw.net.add_quantize(raw.input(VALUES * 0.25), raw.const(0.25), raw.trt.int8)
    (found,) = raw.run(layer)
    assert found.dtype == np.int8
    assert found.tolist() == [0, 2, 2, 0, -2, 126, 127, 127, -128, -128]


def test_quantize_to_float8(raw):
    x = np.array([0.3, -1.0625, 500, -1e9, 0.001], np.float32)
    layer = raw.net.add_quantize(raw.input(x), raw.const(1.0), raw.trt.fp8)
    (found,) = raw.run(layer)
    assert found.tolist() == [0.3125, -1.0, 448, -448, 2**-9]


@pytest.mark.parametrize("axis", [0, 1])
def test_quantize_and_dequantize_per_channel(raw, rng, axis):
    x = rng.standard_normal((4, 4, 3)).astype(np.float16)
    scale = rng.uniform(0.01, 0.05, 4).astype(np.float32)
    quantized = raw.net.add_quantize(raw.input(x), raw.const(scale), raw.trt.int8)
    quantized.axis = axis
    layer = raw.net.add_dequantize(quantized.get_output(0), raw.const(scale), raw.trt.float16)
    layer.axis = axis
    steps = scale.reshape((4, 1, 1) if axis == 0 else (1, 4, 1))
    integers = np.rint(x.astype(np.float32) / steps).clip(-128, 127)
    np.testing.assert_array_equal(raw.run(layer)[0], (integers * steps).astype(np.float16))


def test_quantized_weights_of_a_convolution(raw, rng):
    x = rng.standard_normal((1, 2, 4, 4)).astype(np.float32)
    weights = rng.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8)
    scale = rng.uniform(0.01, 0.02, 3).astype(np.float32)
    kernel = raw.const(weights, np.int8)
    dequantized = raw.net.add_dequantize(kernel, raw.const(scale), raw.trt.float32)
    dequantized.axis = 0
    layer = raw.net.add_convolution_nd(
        raw.input(x), 3, (3, 3), raw.trt.Weights(), raw.trt.Weights()
    )
    layer.set_input(1, dequantized.get_output(0))
    wide = weights * scale.astype(np.float64).reshape(3, 1, 1, 1)
    expected = torch.conv2d(torch.from_numpy(x).double(), torch.from_numpy(wide))
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)


def test_fill_with_fixed_steps(raw):
    layer = raw.net.add_fill((5,), raw.trt.FillOperation.LINSPACE, raw.trt.float32)
    layer.alpha, layer.beta = 0.5, -0.25
    assert raw.run(layer)[0].tolist() == [0.5, 0.25, 0, -0.25, -0.5]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_fill_by_tensors(raw, rng, dtype):
    x = raw.input(rng.random((2, 3)).astype(np.float32), (0, 1))
    to_type = getattr(raw.trt, np.dtype(dtype).name)
    layer = raw.net.add_fill((1, 1), raw.trt.FillOperation.LINSPACE, to_type)
    layer.set_input(0, raw.net.add_shape(x).get_output(0))
    layer.set_input(1, raw.const(5, dtype))
    layer.set_input(2, raw.const([10, -2], dtype))
    (found,) = raw.run(layer)
    assert found.dtype == dtype
    assert found.tolist() == [[5, 3, 1], [15, 13, 11]]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("op", "first", "second", "mean", "deviation"),
    [("RANDOM_UNIFORM", -1.0, 3.0, 1, 4 / 12**0.5), ("RANDOM_NORMAL", 2.0, 0.5, 2, 0.5)],
)
def test_random_fill_has_the_distribution(raw, op, first, second, mean, deviation, dtype):
    torch.manual_seed(0)
    operation = getattr(raw.trt.FillOperation, op)
    layer = raw.net.add_fill((100, 100), operation, getattr(raw.trt, dtype))
    layer.alpha, layer.beta = first, second
    (found,) = raw.run(layer)
    assert found.dtype == dtype
    # Six standard errors of 10,000 values.
    assert found.mean(dtype=np.float64) == pytest.approx(mean, abs=0.06 * deviation)
    assert found.std(dtype=np.float64) == pytest.approx(deviation, rel=0.05)
    if op == "RANDOM_UNIFORM":
        assert found.min() >= first
        assert found.max() <= second


def test_every_fill_operation_is_tested(rtx):
    operations = {"LINSPACE", "RANDOM_UNIFORM", "RANDOM_NORMAL"}
    assert set(rtx.trt.FillOperation.__members__) == operations
