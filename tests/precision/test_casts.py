"""Casts: as few as there can be, and none against the model's own wishes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import Policy, graph, nn, reference
from trtnet.nn import functional as F


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_one_type_costs_a_cast_at_either_end(define: Any, residual: Any, precision: str) -> None:
    made = define(residual, (2, 8, 8, 8), precision=precision)
    (first, last) = made.layers("CAST")
    assert (first.inputs, last.outputs) == (("x",), ("y",))
    assert made.lint() == []


def test_fp32_costs_none(define: Any, residual: Any) -> None:
    assert define(residual, (2, 8, 8, 8), precision="fp32").count("CAST") == 0


@pytest.mark.parametrize("io", ["fp16", "bf16"])
def test_io_of_the_same_type_costs_none(define: Any, residual: Any, io: str) -> None:
    made = define(residual, (2, 8, 8, 8), precision=Policy(io, io=io))
    assert made.count("CAST") == 0
    assert made.dtype("x") == made.dtype("y") == {"fp16": "float16", "bf16": "bfloat16"}[io]


def test_the_type_of_an_input_can_still_be_chosen() -> None:
    net = trtnet.Network("rtx", Policy("fp16", io="fp16"))
    assert net.input("x", (1, 2), "fp32").dtype is trtnet.float32


def test_a_block_kept_in_fp32_is_cast_at_its_ends(define: Any, residual: Any) -> None:
    made = define(residual, (2, 8, 8, 8), precision=Policy("fp16", keep={"block1": "fp32"}))
    inside = [layer for layer in made.layers("CONVOLUTION") if layer.name.startswith("block1")]
    assert {made.dtype(layer.outputs[0]) for layer in inside} == {"float32"}
    assert made.dtype("block2.relu#1") == "float16"
    # x is float32 already; block2 reads block1's output as FP16 once, for two convolutions
    assert [layer.inputs[0] for layer in made.layers("CAST")] == ["block1.relu#1", "fc"]


@pytest.mark.parametrize("kept", ["block1.conv1", "block1.conv2", "block2.downsample.0", "*.conv1"])
def test_a_kept_convolution_leaves_no_trail(define: Any, residual: Any, kept: str) -> None:
    """What is behind its block is FP16 again: not every later block adds in FP32."""
    made = define(residual, (2, 8, 8, 8), precision=Policy("fp16", keep={kept: "fp32"}))
    assert made.dtype("block2.relu#1") == "float16"
    added = [made.dtype(layer.outputs[0]) for layer in made.layers("ELEMENTWISE")]
    assert added[1:] == ["float16", "float16"]
    assert made.lint() == []


def test_one_cast_per_tensor_and_type(define: Any, fill: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Any) -> Any:
            return self.a(x) + self.b(x)

    assert define(fill(Twice()), (1, 4, 3, 3), precision="fp16").count("CAST") == 2


class Normed(nn.Module):
    """LayerNorm whose output a linear layer and an addition read."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        y = self.norm(x)
        return y + self.fc(y)


def test_norms_stay_in_fp32_and_give_fp16_once(define: Any, fill: Any) -> None:
    made = define(fill(Normed()), (2, 3, 8), precision="fp16")
    (norm,) = made.layers("NORMALIZATION")
    assert made.dtype(norm.outputs[0]) == "float32"
    assert [layer.inputs[0] for layer in made.layers("CAST")] == ["norm", "/add"]
    assert made.lint() == []


def test_norms_can_be_fp16(define: Any, fill: Any) -> None:
    made = define(fill(Normed()), (2, 3, 8), precision=Policy("fp16", keep={"norm": "fp16"}))
    (norm,) = made.layers("NORMALIZATION")
    assert made.dtype(norm.outputs[0]) == "float16"


def test_a_norm_between_fp32_modules_costs_no_cast(define: Any, fill: Any) -> None:
    model = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4))
    made = define(fill(model), (2, 8), precision=Policy("fp16", keep={"1": "fp32"}))
    assert made.count("CAST") == 0
    assert set(made.network.module_outputs) == {"", "0", "1"}


@pytest.mark.parametrize(
    ("function", "shape", "wide"),
    [
        (lambda x: x.mean((2, 3)), (1, 4, 7, 7), False),
        (lambda x: x.mean((2, 3)), (1, 4, 64, 64), True),
        (lambda x: x.mean((2, 3)), (1, 4, "H", "W"), True),
        (lambda x: x.sum(1), (1, 4), True),
        (lambda x: x.prod(1), (1, 4), True),
        (lambda x: x.amax(1), (1, 4), False),
        (lambda x: x.softmax(1), (1, 4), False),
        (lambda x: F.log_softmax(x, 1), (1, 4), True),
    ],
)
def test_reductions_that_fp16_cannot_hold(function: Any, shape: Any, wide: bool) -> None:
    net = trtnet.Network("rtx", Policy("fp16", io="fp16"))
    net.output("y", function(net.input("x", shape)))
    kinds = [layer.type for layer in graph.read(net.definition).layers]
    assert kinds.count("CAST") == (2 if wide else 0)


def test_a_sum_beyond_fp16_on_the_way_to_a_mean_is_right() -> None:
    net = trtnet.Network("rtx", "fp16")
    x = net.input("x", (1, 4096)).half()
    net.output("y", F.log_softmax(x, 1))
    values = np.zeros((1, 4096), np.float32)
    wanted = torch.log_softmax(torch.zeros(1, 4096), 1).half().float().numpy()
    np.testing.assert_array_equal(reference.run(net.definition, {"x": values})["y"], wanted)


def test_mixed_keeps_softmax_in_fp32(define: Any) -> None:
    made = define(nn.Softmax(1), (2, 4), precision=Policy.preset("mixed"))
    assert made.dtype(made.layers("SOFTMAX")[0].outputs[0]) == "float32"


def test_a_cast_back_gives_the_tensor_of_before() -> None:
    net = trtnet.Network("rtx", "fp16")
    x = net.input("x", (1, 4))
    half = net.cast(x, trtnet.float16)
    assert net.cast(half, trtnet.float32).itensor is x.itensor
    assert net.cast(net.cast(half, trtnet.bfloat16), trtnet.float16).itensor is half.itensor


def test_a_models_own_casts_round() -> None:
    """``x.half().float()`` is there to lose digits, and is not taken back."""
    net = trtnet.Network("rtx", "fp16")
    net.output("y", net.input("x", (1, 1)).half().float())
    got = reference.run(net.definition, {"x": np.array([[1 + 2.0**-12]], np.float32)})["y"]
    assert got == 1


def test_what_a_model_computes_in_fp32_stays_in_fp32(define: Any, fill: Any) -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            y = self.fc(x)
            wide = y.float()
            return self.fc((y * (wide * wide).sqrt()).half())

    made = define(fill(Careful()), (1, 4), precision="fp16")
    products = [layer for layer in made.layers("ELEMENTWISE") if layer.attributes["op"] == "PROD"]
    assert [made.dtype(layer.outputs[0]) for layer in products] == ["float32", "float32"]


def test_an_fp32_network_input_meets_fp16_in_fp16(define: Any, fill: Any) -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return x + self.fc(x)

    made = define(fill(Shortcut()), (1, 4), precision="fp16")
    assert {made.dtype(layer.outputs[0]) for layer in made.layers("ELEMENTWISE")} == {"float16"}
    assert made.count("CAST") == 2


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "mixed"])
def test_a_policy_gives_what_its_name_gives(residual: Any, define: Any, precision: str) -> None:
    named = define(residual, (2, 8, 8, 8), precision=precision)
    policy = define(residual, (2, 8, 8, 8), precision=Policy.preset(precision))
    assert named.graph.layers == policy.graph.layers
    assert isinstance(named.network.precision, str)
