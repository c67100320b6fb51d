"""Quantized arithmetic of the reference: exact integers, scaled once, as in INT32."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from trtnet import Policy, graph, nn, reference
from trtnet.dtypes import float8, to_storage
from trtnet.recipes.operations import channel_scales

LIMIT = np.float32(3.0)
STEP = LIMIT / np.float32(127)  # of an activation with the largest magnitude 3


def codes(random: np.random.Generator, shape: tuple[int, ...], extreme: bool) -> np.ndarray:
    """INT8 codes; `extreme` ones make the largest sums there can be."""
    low = 100 if extreme else -127
    return random.integers(low, 128, shape).astype(np.int64)


def scales_of(weight: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return (np.abs(weight).max(others) / np.float32(127)).astype(np.float32)


def integer_codes(weight: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.rint(weight / scales_of(weight, axis).reshape(shape)).astype(np.int64)


def int64_convolution(x: np.ndarray, w: np.ndarray, groups: int, transposed: bool) -> np.ndarray:
    """Sums of products in int64, padding 1: every window by itself."""
    rank = x.ndim - 2
    name = f"conv{'_transpose' if transposed else ''}{rank}d"
    function = getattr(torch.nn.functional, name)
    # float64 holds every integer below 2^53; these stay below 2^27.
    sums = function(
        torch.from_numpy(x).double(), torch.from_numpy(w).double(), padding=1, groups=groups
    )
    return sums.numpy().astype(np.int64)


CASES = [
    # module, size, the most products summed up
    (nn.Conv2d(4, 8, 3, padding=1), 6, 36),
    (nn.Conv2d(64, 8, 3, padding=1), 6, 576),
    (nn.Conv2d(512, 16, 3, padding=1), 5, 4608),
    (nn.Conv2d(16, 16, 3, padding=1, groups=16), 6, 9),
    (nn.Conv1d(16, 8, 3, padding=1, groups=2), 9, 24),
    (nn.Conv3d(8, 8, 3, padding=1), 4, 216),
    (nn.ConvTranspose2d(16, 8, 3, padding=1), 5, 144),
    (nn.ConvTranspose2d(16, 8, 3, padding=1, groups=4), 5, 36),
    (nn.ConvTranspose3d(8, 4, 3, padding=1), 3, 216),
]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("base", ["fp32", "fp16"])
@pytest.mark.parametrize(("module", "size", "products"), CASES)
def test_convolutions_equal_integer_arithmetic_bit_for_bit(
    module: Any, size: int, products: int, base: str, extreme: bool, define: Any, ranges: Any
) -> None:
    random = np.random.default_rng(products)
    transposed = "Transpose" in type(module).__name__
    axis, rank = int(transposed), module.weight.numel() and len(module.weight.shape) - 2
    module.weight.array = random.standard_normal(module.weight.shape).astype(np.float32)
    if extreme:  # every weight near the largest of its channel, none negative
        module.weight.array = (1 - 0.2 * random.random(module.weight.shape)).astype(np.float32)
    module.bias.array = random.standard_normal(module.bias.shape).astype(np.float32)
    x = codes(random, (2, module.weight.shape[0] if transposed else module.in_channels,
                       *[size] * rank), extreme)  # fmt: skip
    policy = Policy("int8", base=base)
    made = define(module, x.shape, precision=policy, calibration=ranges({"x": float(LIMIT)}))
    got = made.run((x * STEP).astype(np.float32))

    weight = module.weight.array
    sums = int64_convolution(x, integer_codes(weight, axis), module.groups, transposed)
    scales = scales_of(weight, axis) * STEP
    if transposed:
        scales = np.tile(scales, module.groups)
    column = (1, -1, *[1] * rank)
    bias = module.bias.array if base == "fp32" else module.bias.array.astype(np.float16)
    wanted = sums.astype(np.float32) * scales.reshape(column)
    wanted = wanted + bias.astype(np.float32).reshape(column)
    if base == "fp16":
        wanted = wanted.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(got, wanted)


def test_sums_beyond_float32_occur_in_these_tests() -> None:
    assert 4608 * 100 * 100 > 2**24


@pytest.mark.parametrize("shape", [(3, 4608), (2, 3, 64), (64,)])
def test_linear_layers_equal_integer_arithmetic_bit_for_bit(
    shape: tuple[int, ...], define: Any, ranges: Any, rng: np.random.Generator
) -> None:
    module = nn.Linear(shape[-1], 16)
    module.weight.array = rng.standard_normal((16, shape[-1])).astype(np.float32)
    module.bias.array = rng.standard_normal(16).astype(np.float32)
    x = codes(rng, shape, False)
    policy = Policy("int8", base="fp32")
    made = define(module, shape, precision=policy, calibration=ranges({"x": float(LIMIT)}))
    sums = x @ integer_codes(module.weight.array, 0).T
    wanted = sums.astype(np.float32) * (scales_of(module.weight.array, 0) * STEP)
    np.testing.assert_array_equal(
        made.run((x * STEP).astype(np.float32)), wanted + module.bias.array
    )


def test_products_of_activations_equal_integer_arithmetic(
    define: Any, ranges: Any, rng: np.random.Generator
) -> None:
    """The first product of an attention: both operands are activations with scales of their own."""
    query, key = codes(rng, (1, 2, 5, 64), False), codes(rng, (1, 2, 7, 64), False)
    import trtnet

    net = trtnet.Network(
        "rtx",
        Policy("fp32", kinds={"attention": "int8"}, base="fp32"),
        calibration=ranges({"/mul": 3.0, "/permute": 6.0, "/softmax": 1.0, "v": 1.0}),
    )
    inputs = {"q": query.shape, "k": key.shape, "v": key.shape}
    q, k, v = (net.input(name, shape) for name, shape in inputs.items())
    net.output("y", nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0))
    values = {
        "q": (query * STEP).astype(np.float32),
        "k": (key * (2 * STEP)).astype(np.float32),
        "v": np.zeros(key.shape, np.float32),
    }
    name = next(
        layer.outputs[0]
        for layer in graph.read(net.definition).layers
        if layer.type == "MATRIX_MULTIPLY"
    )
    got = reference.run(net.definition, values, outputs=[name])[name]
    sums = query @ key.swapaxes(-1, -2)
    scale = STEP * (np.float32(6.0) / np.float32(127))
    np.testing.assert_array_equal(got, sums.astype(np.float32) * scale)


def test_values_are_rounded_half_to_even_and_saturate(define: Any, ranges: Any) -> None:
    module = nn.Conv2d(1, 1, 1, bias=False)
    module.weight.array = np.ones((1, 1, 1, 1), np.float32)
    policy = Policy("int8", base="fp32")
    made = define(module, (1, 1, 1, 6), precision=policy, calibration=ranges({"x": 127.0}))
    x = np.array([0.5, 1.5, -0.5, 2.5, 1000, -1000], np.float32).reshape(1, 1, 1, 6)
    assert made.run(x).reshape(-1).tolist() == [0, 2, 0, 2, 127, -128]


def quantized_by_torch(x: np.ndarray, weight: np.ndarray, bias: Any, out_step: float) -> Any:
    """torch's own INT8 convolution, or linear layer; it has codes 0 to 255 around 128."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move these elsewhere
        scales = torch.from_numpy(scales_of(weight, 0)).double()
        zeros = torch.zeros(len(weight), dtype=torch.long)
        packed_codes = torch.from_numpy(integer_codes(weight, 0).astype(np.int8))
        w = torch._make_per_channel_quantized_tensor(packed_codes, scales, zeros, 0)
        given = torch.from_numpy((x + 128).astype(np.uint8))
        q = torch._make_per_tensor_quantized_tensor(given, float(STEP), 128)
        ops = torch.ops.quantized
        if x.ndim == 2:
            result = ops.linear(q, ops.linear_prepack(w, torch.from_numpy(bias)), out_step, 128)
        else:
            window = ([1, 1], [1, 1], [1, 1], 1)
            packed = ops.conv2d_prepack(w, torch.from_numpy(bias), *window)
            result = ops.conv2d(q, packed, out_step, 128)
        return result.int_repr().numpy().astype(np.int64) - 128


@pytest.mark.parametrize(
    ("module", "shape"),
    [(nn.Conv2d(16, 8, 3, padding=1), (2, 16, 9, 9)), (nn.Linear(64, 32), (40, 64))],
)
def test_torchs_quantized_operators_give_the_same_codes(
    module: Any, shape: tuple[int, ...], define: Any, ranges: Any, rng: np.random.Generator
) -> None:
    """Up to one step where a sum lies between two codes: torch rounds the bias to INT32 in steps
    of both scales, and scales by a rounded quotient."""
    module.weight.array = rng.standard_normal(module.weight.shape).astype(np.float32) / 8
    module.bias.array = rng.standard_normal(module.bias.shape).astype(np.float32)
    x = codes(rng, shape, False)
    network = nn.Sequential(module, nn.Identity(), nn.Linear(shape[-1], 4))
    tail = network[2]
    tail.weight.array = np.ones((4, 9 if x.ndim == 4 else 32), np.float32)
    if x.ndim == 2:
        network = nn.Sequential(module, nn.Identity(), nn.Linear(32, 4))
        network[2].weight.array, network[2].bias.array = tail.weight.array, np.zeros(4, np.float32)
    tail.bias.array = np.zeros(4, np.float32)
    known = ranges({"x": float(LIMIT), "0": 10.0})
    policy = Policy("int8", base="fp32")
    made = define(network, shape, precision=policy, calibration=known)
    quantize = made.layers("QUANTIZE")[-1]
    name = quantize.outputs[0]
    values = {"x": (x * STEP).astype(np.float32)}
    got = reference.run(made.graph, values, outputs=[name])[name].astype(np.int64)
    wanted = quantized_by_torch(x, module.weight.array, module.bias.array, 10 / 127)
    inside = np.abs(wanted) < 127
    assert inside.mean() > 0.9
    assert np.abs(got - wanted)[inside].max() <= 1
    assert (got == wanted)[inside].mean() > 0.99


def test_float8_codes_are_those_of_torch() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    finite = every[~every.isnan()]
    ordered = finite.unique()
    halves = (ordered[1:] + ordered[:-1]) / 2
    random = torch.from_numpy(np.random.default_rng(0).standard_normal(10_000) * 100)
    values = torch.cat(
        [finite, halves, halves.nextafter(torch.tensor(9e9)), random.float(), -random.float()]
    )
    wanted = values.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    np.testing.assert_array_equal(to_storage(values.numpy(), float8), wanted)


def test_float8_saturates_and_keeps_nan() -> None:
    stored = to_storage(np.array([1e9, -1e9, np.inf, 465, np.nan], np.float32), float8)
    values = torch.from_numpy(stored).view(torch.float8_e4m3fn).float()
    assert values[:4].tolist() == [448, -448, 448, 448]
    assert values[4].isnan()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("limit", [127, 448])
def test_channel_scales(axis: int, limit: float, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((3, 4, 2)).astype(np.float32)
    found = channel_scales(weight, axis, limit)
    for index, scale in enumerate(found):
        wanted = np.abs(weight.take(index, axis)).max() / limit
        assert scale == pytest.approx(wanted, rel=1e-6)


def test_float64_takes_the_same_codes(define: Any, ranges: Any, rng: np.random.Generator) -> None:
    module = nn.Conv2d(8, 4, 3)
    module.weight.array = rng.standard_normal(module.weight.shape).astype(np.float32)
    module.bias.array = rng.standard_normal(4).astype(np.float32)
    x = (codes(rng, (1, 8, 5, 5), False) * STEP).astype(np.float32)
    made = define(module, x.shape, precision="int8", calibration=ranges({"x": float(LIMIT)}))
    exact = reference.run(made.graph, {"x": x}, float64=True)["y"]
    np.testing.assert_allclose(made.run(x), exact, rtol=2**-10, atol=1e-3)
