"""Half precision by OpenVINO: float32 values, rounded as PyTorch rounds them."""

from __future__ import annotations

import math

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset15 as ops
from torch import fx

import trtnet
from trtnet import nn
from trtnet.engines.openvino import half
from trtnet.engines.openvino.runtime import OpenVinoForward

HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALVES)
def test_rounding_is_that_of_pytorch(dtype) -> None:
    """All numbers of the type, those in the middle between two, and their neighbours."""
    exact = torch.arange(1, 2**15 - 2**10, dtype=torch.int32).to(torch.int16).view(dtype).float()
    exact = exact[(exact > 7e-5) & (exact < min(half.LIMITS[dtype], 1e30))]
    middle = ((exact[1:].double() + exact[:-1].double()) / 2).float()
    around = [torch.nextafter(middle, torch.tensor(end)) for end in (0.0, math.inf)]
    numbers = torch.cat([exact, middle, *around])
    numbers = torch.cat([numbers, -numbers])
    x = ops.parameter(ov.PartialShape([-1]))
    model = ov.Model([half.rounded(x.output(0), dtype)], [x])
    made = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = torch.from_numpy(made([numbers.numpy()])[0])
    assert len(numbers) > 50_000
    assert torch.equal(found, numbers.to(dtype).float())


class Net(trtnet.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.gelu = nn.LayerNorm(8), nn.GELU()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = nn.functional.relu(self.conv(x))
        x = nn.functional.hardswish(self.deep(x) + x)
        x = self.gelu(self.norm(x.flatten(2).transpose(1, 2)))
        x = nn.functional.scaled_dot_product_attention(x, x, x)
        return self.fc(x.mean(1))


def plan(policy: str | trtnet.Policy, scale: float = 1.0) -> trtnet.Plan:
    model, rng = Net(), np.random.default_rng(5)
    model.load_state_dict({name: (scale * rng.normal(size=tuple(p.shape))).astype(np.float32)
                           for name, p in model.named_parameters()})  # fmt: skip
    net = trtnet.Network("torch", policy)
    net.output("y", model(net.input("x", (2, 3, 6, 6))))
    return trtnet.build(net)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "mixed"])
@pytest.mark.parametrize("io", ["fp32", "fp16"])
def test_networks_round_where_pytorch_does(precision, io, x) -> None:
    policy = trtnet.Policy.preset(precision)
    policy = trtnet.Policy(policy.compute, io=io, kinds=policy.kinds)
    x = x.astype(np.float32 if io == "fp32" else np.float16)
    with (
        trtnet.Session(plan(policy), device="cpu", runtime="openvino") as quick,
        trtnet.Session(plan(policy), device="cpu", runtime="torch") as plain,
        trtnet.Session(plan("fp32"), device="cpu", runtime="torch") as exact,
    ):
        assert "torch" not in quick.runtime
        found, wanted, right = quick(x)["y"], plain(x)["y"], exact(x.astype(np.float32))["y"]
    assert found.dtype == wanted.dtype
    distance = np.abs(found.astype(np.float64) - wanted).max()
    assert distance < 0.7 * np.abs(wanted - right).max()  # closer than without rounding


def module(call) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output({"y": call(graph, graph.placeholder("x"))})
    return fx.GraphModule(torch.nn.Module(), graph)


@pytest.mark.parametrize("dtype", HALVES)
def test_each_sum_is_rounded(dtype) -> None:
    method = {torch.float16: "half", torch.bfloat16: "bfloat16"}[dtype]

    def call(graph, x):
        small = graph.call_method(method, (x,))
        total = graph.call_function(torch.add, (small, small))
        for _ in range(3):
            total.meta["half"] = True
            total = graph.call_function(torch.mul, (total, small))
        total.meta["half"] = True
        return graph.call_function(torch.matmul, (graph.call_method("float", (total,)),) * 2)

    made = module(call)
    x = torch.randn((40, 40), generator=torch.Generator().manual_seed(1))
    forward = OpenVinoForward(made, [("x", torch.float32)], ((40, 40),), 1)
    torch.testing.assert_close(forward(x)["y"], made(x)["y"], rtol=1e-5, atol=1e-5)


def test_overflow_is_that_of_half_precision(x) -> None:
    made = plan("fp16", scale=60.0)
    with (
        trtnet.Session(made, device="cpu", runtime="openvino") as quick,
        trtnet.Session(made, device="cpu", runtime="torch") as plain,
    ):
        for factor in (1.0, 300.0):
            found, wanted = quick(x * factor)["y"], plain(x * factor)["y"]
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
        assert not np.isfinite(wanted).all()
        np.testing.assert_array_equal(found, wanted)


def test_inputs_of_half_precision_beyond_its_squares(x) -> None:
    policy = trtnet.Policy("fp16", io="fp16")
    large = (x * 1000).astype(np.float16)
    with trtnet.Session(plan(policy, scale=0.01), device="cpu", runtime="openvino") as quick:
        found = quick(large)["y"]
    with trtnet.Session(plan(policy, scale=0.01), device="cpu", runtime="torch") as plain:
        wanted = plain(large)["y"]
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=1e-3)
