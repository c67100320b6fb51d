"""Where Q/DQ pairs stand, read back from the network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Policy, nn, reference, zoo
from trtnet.nn import functional as F

QUANTIZED = ["int8", "fp8"]
CODES = {"int8": "int8", "fp8": "float8_e4m3"}


@pytest.fixture(params=QUANTIZED)
def precision(request: Any) -> str:
    return request.param


@pytest.fixture
def made(calibrated: Any, residual: Any, images: np.ndarray, precision: str) -> Any:
    return calibrated(residual, images, precision=precision)


def test_every_product_reads_quantized_values_and_weights(made: Any, precision: str) -> None:
    products = made.layers("CONVOLUTION", "MATRIX_MULTIPLY")
    assert len(products) == 6
    for layer in products:
        assert made.is_dequantized(layer.inputs[0])
        assert made.is_dequantized(layer.inputs[1])
        assert "kernel" not in layer.weights
        weight = made.edges.producers[made.edges.producers[layer.inputs[1]].inputs[0]]
        assert weight.type == "CONSTANT"
        assert made.dtype(weight.outputs[0]) == CODES[precision]


def test_weights_have_a_scale_per_output_channel(made: Any) -> None:
    for layer in made.layers("CONVOLUTION", "MATRIX_MULTIPLY"):
        dequantize = made.edges.producers[layer.inputs[1]]
        codes, scale = (made.graph.tensors[name] for name in dequantize.inputs)
        assert dequantize.attributes["axis"] == 0
        assert (scale.shape, scale.dtype) == ((codes.shape[0],), "float32")


def test_activations_have_one_scale(made: Any) -> None:
    for layer in made.layers("QUANTIZE"):
        scale = made.graph.tensors[layer.inputs[1]]
        assert (scale.shape, scale.dtype) == ((), "float32")
        for reader in made.edges.readers[layer.outputs[0]]:
            assert reader.type == "DEQUANTIZE"
            assert reader.inputs[1] == layer.inputs[1]


def test_one_pair_per_tensor(made: Any) -> None:
    taken = [layer.inputs[0] for layer in made.layers("QUANTIZE")]
    assert len(taken) == len(set(taken)) == len(made.network.observed)
    # block1's output: read by a convolution, a shortcut's convolution
    (quantize,) = [q for q in made.layers("QUANTIZE") if q.inputs[0] == "block1.relu#1"]
    (dequantize,) = made.edges.readers[quantize.outputs[0]]
    readers = [layer.name for layer in made.edges.readers[dequantize.outputs[0]]]
    assert readers == ["block2.conv1/conv", "block2.downsample.0/conv"]


def test_an_identity_shortcut_shares_the_pair_of_the_convolution(made: Any) -> None:
    (add,) = [layer for layer in made.layers("ELEMENTWISE") if layer.name == "block1/add"]
    assert [made.is_dequantized(name) for name in add.inputs] == [False, True]
    assert made.quantized_from(add.inputs[1]) == "x"


def test_a_convolution_in_the_shortcut_gets_a_pair_behind_it(made: Any) -> None:
    (add,) = [layer for layer in made.layers("ELEMENTWISE") if layer.name == "block2/add"]
    assert [made.is_dequantized(name) for name in add.inputs] == [False, True]
    assert made.quantized_from(add.inputs[1]) == "block2.downsample.1"


class TwoConvolutions(nn.Module):
    """``a(x) + b(x)``, after convolutions have read those of the two that `read_first` names."""

    def __init__(self, read_first: str) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.reads_a, self.reads_b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.read_first = read_first

    def forward(self, x: Any) -> Any:
        a, b = self.a(x), self.b(x)
        read = [self.reads_a(a)] if "a" in self.read_first else []
        read += [self.reads_b(b)] if "b" in self.read_first else []
        return math.prod(read, start=a + b)  # no further addition


@pytest.mark.parametrize(
    ("read_first", "quantized"),
    [("", "b"), ("a", "a"), ("b", "b"), ("ab", "b")],
)
def test_of_two_convolutions_the_one_that_has_a_pair_is_the_shortcut(
    read_first: str, quantized: str, calibrated: Any, fill: Any, precision: str
) -> None:
    """Or else the second; so an addition makes no second pair where one will do."""
    x = np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32)
    made = calibrated(fill(TwoConvolutions(read_first)), x, precision=precision)
    (add,) = [layer for layer in made.layers("ELEMENTWISE") if layer.attributes["op"] == "SUM"]
    sources = [
        made.quantized_from(name) if made.is_dequantized(name) else None for name in add.inputs
    ]
    assert sources == (["a", None] if quantized == "a" else [None, "b"])
    assert set(made.network.observed) == {"x", quantized, *read_first}


def test_global_average_pooling_reads_a_pair(made: Any) -> None:
    (pool,) = made.layers("REDUCE")
    assert made.quantized_from(pool.inputs[0]) == "block2.relu#1"


def test_none_between_convolution_activation_and_addition(made: Any) -> None:
    for layer in made.layers("ACTIVATION"):
        assert made.edges.producers[layer.inputs[0]].type in ("CONVOLUTION", "ELEMENTWISE")


def test_nothing_to_complain_about(made: Any) -> None:
    assert made.lint() == []


def test_a_network_input_is_quantized_without_a_cast(made: Any) -> None:
    assert [layer.inputs[0] for layer in made.layers("CAST")] == ["fc"]
    assert made.layers("QUANTIZE")[0].inputs[0] == "x"


@pytest.mark.parametrize("base", ["fp32", "fp16", "bf16"])
def test_biases_and_outputs_have_the_base_type(
    calibrated: Any, residual: Any, images: np.ndarray, base: str
) -> None:
    made = calibrated(residual, images, precision=Policy("int8", base=base))
    dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[base]
    for layer in made.layers("CONVOLUTION"):
        assert {made.dtype(name) for name in (*layer.inputs, *layer.outputs)} == {dtype}
    assert made.lint() == []


def test_batch_norm_is_folded_before_the_weights_are_quantized(
    calibrated: Any, fill: Any, images: np.ndarray
) -> None:
    model = fill(nn.Sequential(nn.Conv2d(8, 4, 3, bias=False), nn.BatchNorm2d(4)))
    made = calibrated(model, images, precision=Policy("int8", base="fp32"))
    conv, norm = model[0], model[1]
    scale = norm.weight.array / np.sqrt(norm.running_var.array + np.float32(norm.eps))
    folded = conv.weight.array * scale.reshape(-1, 1, 1, 1)
    (constant,) = [layer for layer in made.layers("CONSTANT") if layer.name == "0/weight"]
    codes = constant.weights["weights"]
    largest = np.abs(folded).max((1, 2, 3), keepdims=True)
    assert np.abs(codes).max((1, 2, 3)).tolist() == [127] * 4
    np.testing.assert_allclose(
        codes * largest / 127, folded, atol=float(largest.max()) / 127 * 0.51
    )


def test_a_batch_norm_that_is_not_folded_changes_no_pair(
    calibrated: Any, residual: Any, images: np.ndarray
) -> None:
    made = calibrated(residual, images, precision="int8", fold_batch_norm=False)
    assert made.lint() == []
    assert made.network.observed == (
        *("x", "block1.relu", "block1.relu#1", "block2.relu", "block2.downsample.1"),
        *("block2.relu#1", "/reshape"),
    )


# Layers of every kind, and what may not be quantized


def single(module: Any, shape: tuple[int, ...], calibrated: Any, precision: Any) -> Any:
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    return calibrated(module, x, precision=precision)


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.Conv1d(4, 6, 3), (2, 4, 9), 0),
        (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5), 0),
        (nn.Conv3d(4, 6, 3), (2, 4, 4, 4, 4), 0),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5), 1),
        (nn.ConvTranspose3d(4, 6, 3), (2, 4, 3, 3, 3), 1),
        (nn.Linear(4, 6), (2, 4), 0),
        (nn.Linear(4, 6), (2, 5, 4), 1),
        (nn.Linear(4, 6), (4,), 0),
    ],
)
def test_layers_of_every_rank(
    module: Any, shape: tuple[int, ...], axis: int, calibrated: Any, fill: Any, build: Any
) -> None:
    made = single(fill(module), shape, calibrated, "int8")
    (dequantize,) = [layer for layer in made.layers("DEQUANTIZE") if "weight" in layer.name]
    assert dequantize.attributes["axis"] == axis
    assert made.graph.tensors[dequantize.inputs[1]].shape == (6,)
    assert made.lint() == []
    assert build(made.network)


def test_fp8_leaves_grouped_convolutions_alone(calibrated: Any, fill: Any) -> None:
    made = single(fill(nn.Conv2d(4, 4, 3, groups=4)), (1, 4, 5, 5), calibrated, "fp8")
    assert made.count("QUANTIZE", "DEQUANTIZE") == 0
    assert made.network.observed == ()
    assert made.dtype(made.layers("CONVOLUTION")[0].outputs[0]) == "float16"


class Encoder(nn.Module):
    """A transformer's layer: LayerNorm, attention, addition, LayerNorm, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Any) -> Any:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


def test_norms_and_residual_streams_of_transformers_are_not_quantized(
    calibrated: Any, fill: Any
) -> None:
    made = single(fill(Encoder()), (2, 5, 16), calibrated, "int8")
    for layer in made.layers("NORMALIZATION", "SOFTMAX", "ELEMENTWISE"):
        assert not any(map(made.is_dequantized, layer.inputs))
    assert made.count("QUANTIZE") == 4  # the inputs of four linear layers
    assert made.lint() == []


@pytest.mark.parametrize(
    ("policy", "pairs"),
    [
        (Policy("int8"), 0),
        (Policy("fp8"), 4),
        (Policy("int8", kinds={"attention": "int8"}), 4),
        (Policy("fp16", kinds={"attention": "fp8"}), 4),
    ],
)
def test_products_of_an_attention(policy: Policy, pairs: int, calibrated: Any, fill: Any) -> None:
    made = single(fill(Encoder()), (2, 5, 16), calibrated, policy)
    products = [
        layer for layer in made.layers("MATRIX_MULTIPLY") if layer.name.startswith("attention/")
    ]
    of_activations = [p for p in products if made.count_constants(p) == 0]
    found = [made.is_dequantized(name) for p in of_activations for name in p.inputs]
    assert len(of_activations) == 2
    assert sum(found) == pairs
    assert made.lint() == []


def test_a_concatenation_gets_one_pair_behind_it(calibrated: Any, fill: Any) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Any) -> Any:
            return self.c(trtnet.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1))

    made = single(fill(Joined()), (1, 4, 3, 3), calibrated, "int8")
    assert made.network.observed == ("x", "/cat")
    assert made.lint() == []


def test_padding_by_hand_stands_behind_the_pair(calibrated: Any, fill: Any) -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    made = single(fill(conv), (1, 4, 5, 5), calibrated, "int8")
    (pad,) = made.layers("SLICE")
    assert made.quantized_from(pad.inputs[0]) == "x"
    assert made.lint() == []


def test_only_a_global_average_behind_quantized_layers_gets_a_pair(
    calibrated: Any, fill: Any
) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.AvgPool2d(2), nn.LayerNorm(2), nn.AvgPool2d(2))
    made = single(fill(model), (1, 4, 4, 4), calibrated, "int8")
    assert made.network.observed == ("x",)


def test_average_pooling_over_everything_is_global(calibrated: Any, fill: Any) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.AvgPool2d(4))
    made = single(fill(model), (1, 4, 4, 4), calibrated, "int8")
    assert made.network.observed == ("x", "1")
    assert made.lint() == []


def test_weights_alone(fill: Any, define: Any, residual: Any, images: np.ndarray) -> None:
    made = define(residual, images.shape, precision="int8-weights")
    assert made.network.observed == ()
    assert (made.count("QUANTIZE"), made.count("DEQUANTIZE")) == (0, 6)
    assert made.lint() == []
    full = define(residual, images.shape).run(images)
    assert np.linalg.norm(made.run(images) - full) < 0.02 * np.linalg.norm(full)


def test_modules_kept_in_floating_point(calibrated: Any, residual: Any, images: np.ndarray) -> None:
    policy = Policy("int8", keep={"block1": "fp16", "fc": "fp32"})
    made = calibrated(residual, images, precision=policy)
    assert made.network.observed == (
        *("block1.relu#1", "block2.relu", "block2.downsample.1", "block2.relu#1"),
    )
    assert made.lint() == []


def test_one_quantized_convolution_in_a_floating_network(
    calibrated: Any, residual: Any, images: np.ndarray
) -> None:
    policy = Policy("fp16", keep={"block2.conv2": "int8"})
    made = calibrated(residual, images, precision=policy)
    assert made.network.observed == ("block2.relu", "block2.downsample.1", "block2.relu#1")
    assert made.lint() == []


def test_pooling_kept_in_floating_point(calibrated: Any, residual: Any, images: np.ndarray) -> None:
    policy = Policy("int8", keep={"pool": "fp16", "fc": "fp16"})
    made = calibrated(residual, images, precision=policy)
    assert made.network.observed[-1] == "block2.downsample.1"


# Names and tables


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "resnext50_32x4d"])
def test_the_zoo_has_nothing_to_complain_about(
    name: str, define: Any, fill: Any, ranges: Any
) -> None:
    model = fill(zoo.get_model(name, num_classes=8))
    observing = define(model, (1, 3, 64, 64), precision="int8")
    known = ranges(dict.fromkeys(observing.network.observed, 1.0))
    made = define(model, (1, 3, 64, 64), precision="int8", calibration=known)
    assert made.network.observed == observing.network.observed
    assert made.lint() == []


def test_the_reference_runs_every_pair(made: Any, images: np.ndarray, residual: Any) -> None:
    values = reference.run(made.graph, {"x": images}, outputs=[
        layer.outputs[0] for layer in made.layers("QUANTIZE")
    ])  # fmt: skip
    assert all(np.isfinite(value.astype(np.float32)).all() for value in values.values())
