"""Types below 8 bits and block scales, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trtnet import graph
from trtnet.reference.dtypes import to_fp4

# OCP Microscaling Formats 1.0, table of FP4 (E2M1): the values of codes 0 to 7.
FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def nearest(values, grid):
    """The nearest value of `grid`; in the middle between two the one at an even place."""
    grid = np.asarray(grid)
    distance = np.abs(np.abs(values)[..., None] - grid)
    closest = distance == distance.min(-1, keepdims=True)
    even = closest & (np.arange(len(grid)) % 2 == 0)
    place = np.where(even.any(-1), even.argmax(-1), closest.argmax(-1))
    return np.copysign(grid[place], values)


def packed(raw, codes, dtype, shape):
    """A constant of 4-bit `codes`, two per byte, the first in the low bits."""
    codes = np.asarray(codes, np.uint8).reshape(-1, 2)
    held = codes[:, 0] | (codes[:, 1] << 4)
    raw.held.append(held)
    weights = raw.trt.Weights(dtype, held.ctypes.data, codes.size)
    return raw.net.add_constant(shape, weights).get_output(0)


def test_rounding_to_fp4():
    x = torch.linspace(-8, 8, 1025, dtype=torch.float64)
    np.testing.assert_array_equal(to_fp4(x), nearest(x.numpy(), FP4))


@pytest.mark.parametrize(
    ("target", "x", "expected"),
    [
        ("fp4", [0.25, 0.75, -5, 5.1, 100, -np.inf], [0, 1, -4, 6, 6, -6]),
        ("fp8", [0.3, -1.0625, 464, 1e9, -np.inf], [0.3125, -1, 448, 448, -448]),
        ("int4", [-8, -1.9, 3.9, 7], [-8, -1, 3, 7]),
    ],
)
def test_casts_saturate_and_round(raw, target, x, expected):
    layer = raw.net.add_cast(raw.input(np.array(x, np.float32)), getattr(raw.trt, target))
    back = raw.net.add_cast(layer.get_output(0), raw.trt.float32)
    np.testing.assert_array_equal(raw.run(back)[0], np.array(expected, np.float32))


def test_constants_of_four_bits(raw):
    integers = packed(raw, range(16), raw.trt.int4, (4, 4))
    floats = packed(raw, range(16), raw.trt.fp4, (16,))
    casts = [raw.net.add_cast(tensor, raw.trt.float32) for tensor in (integers, floats)]
    np.testing.assert_array_equal(
        raw.run(casts[0])[0], np.array([*range(8), *range(-8, 0)]).reshape(4, 4)
    )
    np.testing.assert_array_equal(raw.run(casts[1])[0], [*FP4, *(-value for value in FP4)])
    stored = [layer.weights["weights"] for layer in graph.read(raw.net).layers[:2]]
    assert [array.dtype for array in stored] == [np.int8, np.uint8]


@pytest.mark.parametrize("dtype", ["int8", "fp8", "int4", "fp4"])
def test_quantize_with_one_scale_per_block(raw, rng, dtype):
    x = (4 * rng.standard_normal((8, 32))).astype(np.float32)
    scale = rng.uniform(0.1, 1, (8, 2)).astype(np.float32)
    layer = raw.net.add_quantize(raw.input(x), raw.const(scale), getattr(raw.trt, dtype))
    back = raw.net.add_dequantize(layer.get_output(0), raw.const(scale), raw.trt.float32)
    wide = scale.repeat(16, 1)
    scaled = x / wide
    rounded = {
        "int8": lambda: np.rint(scaled).clip(-128, 127),
        "int4": lambda: np.rint(scaled).clip(-8, 7),
        "fp4": lambda: nearest(scaled, FP4),
        "fp8": lambda: torch.from_numpy(scaled).to(torch.float8_e4m3fn).float().numpy(),
    }[dtype]()
    np.testing.assert_array_equal(raw.run(back)[0], (rounded * wide).astype(np.float32))


def test_zero_points_follow_the_documented_formula(raw):
    x, scale = np.array([-40, -1, 0, 1, 40], np.float32), raw.const(0.5)
    zero = raw.const(10, np.int8)
    layer = raw.net.add_quantize(raw.input(x), scale, raw.trt.int8)
    layer.set_input(2, zero)
    back = raw.net.add_dequantize(layer.get_output(0), scale, raw.trt.float32)
    back.set_input(2, zero)
    assert raw.run(layer)[0].tolist() == [-70, 8, 10, 12, 90]
    assert raw.run(back)[0].tolist() == [-40, -1, 0, 1, 40]


@pytest.mark.parametrize("axis", [0, 1])
def test_dynamic_quantization_to_nvfp4(raw, rng, axis):
    x = rng.standard_normal((32, 32)).astype(np.float16)
    x[:16, :16] = 0
    layer = raw.net.add_dynamic_quantize(raw.input(x), axis, 16, raw.trt.fp4, raw.trt.fp8)
    layer.set_input(1, raw.const(0.01))
    blocks = np.abs(x.astype(np.float32)).reshape((2, 16, 32) if axis == 0 else (32, 2, 16))
    scale = torch.from_numpy(blocks.max(axis + 1) / 6 / np.float32(0.01))
    scale = scale.to(torch.float8_e4m3fn).float().numpy()
    step = (scale * np.float32(0.01)).repeat(16, axis)
    data, scales = raw.run(layer)
    np.testing.assert_array_equal(scales, scale)
    wanted = nearest(np.divide(x, step, out=np.zeros_like(step), where=step > 0), FP4)
    np.testing.assert_array_equal(data, wanted)


def test_dynamic_quantization_to_mxfp8(raw, rng):
    x = (rng.standard_normal((4, 64)) * 10.0 ** rng.integers(-3, 4, (4, 1))).astype(np.float32)
    block, trt = (1, 32), raw.trt
    layer = raw.net.add_dynamic_quantize_v2(raw.input(x), block, trt.fp8, trt.DataType.E8M0)
    data, scales = raw.run(layer)
    largest = np.abs(x).reshape(4, 2, 32).max(-1)
    exponents = np.log2(scales)
    np.testing.assert_array_equal(exponents, np.round(exponents))
    assert (largest / scales <= 448).all()  # nothing saturates, and half the scale would
    assert (largest / (scales / 2) > 448).all()
    error = np.abs(data * scales.repeat(32, 1) - x)
    assert (error <= np.maximum(np.abs(x) * 2**-4, scales.repeat(32, 1) * 2**-10)).all()
