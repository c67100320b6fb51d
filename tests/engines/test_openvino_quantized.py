"""Quantized networks by OpenVINO: on its INT8 kernels, with the codes of the reference."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx

import trtnet
from trtnet import nn
from trtnet.engines.openvino.quantized import has_exact_products
from trtnet.engines.openvino.runtime import OpenVinoForward
from trtnet.quantization import calibrate
from trtnet.reference import integer, linear, quantize

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or not has_exact_products(),
    reason="OpenVINO has no exact products of 8-bit values on this processor",
)
STEP, NEXT = 0.03, 0.05
KINDS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
ONES = ((1, 1), (1, 1), (1, 1))
PRODUCTS = [
    (F.conv2d, (12, 8, 3, 3), (None, *ONES, 1), (-1, 1, 1), 1),
    (F.conv2d, (8, 1, 3, 3), (None, *ONES, 8), (-1, 1, 1), 1),
    (F.conv2d, (12, 8, 1, 1), (None, (2, 2), (0, 0), (1, 1), 1), (-1, 1, 1), 1),
    (F.conv_transpose2d, (8, 6, 2, 2), (None, (2, 2), (0, 0), 0, 1, (1, 1)), (-1, 1, 1), 1),
    (linear.multiply, (5, 9), ("NONE", "TRANSPOSE"), (-1,), 1),
    (torch.matmul, (9, 5), (), (-1,), 1),
]


def quantized_product(function, shape, rest, view, repeats) -> fx.GraphModule:
    """Codes of the input, their product with stored codes, scaled, a ReLU, and codes again."""
    random = torch.Generator().manual_seed(4)
    root, graph = torch.nn.Module(), fx.Graph()
    codes = torch.randint(-127, 128, shape, dtype=torch.int8, generator=random)
    channels = {F.conv_transpose2d: 1, torch.matmul: 1}.get(function, 0)
    scales = torch.rand(shape[channels], generator=random) * 0.01 + 0.001
    bias = torch.randn(shape[channels], generator=random)
    stored = {"step": torch.tensor(STEP), "next": torch.tensor(NEXT), "scales": scales,
              "codes": codes.double(), "bias": bias}  # fmt: skip
    for name, value in stored.items():
        root.register_buffer(name, value)
    nodes = {name: graph.get_attr(name) for name in stored}

    def call(target, *args, **options):
        return graph.call_function(target, args, options)

    x = call(quantize.to_quantized, graph.placeholder("x"), nodes["step"], (), dtype="int8")
    wide = graph.call_method("to", (x, torch.float64))
    sums = call(function, wide, nodes["codes"], *rest)
    shift = None if function in (torch.matmul, linear.multiply) else nodes["bias"]
    made = call(integer.scaled, sums, nodes["step"], nodes["scales"], shift, view, repeats)
    again = call(quantize.to_quantized, call(torch.relu, made), nodes["next"], (), dtype="int8")
    graph.output({"y": call(quantize.from_quantized, again, nodes["next"], ())})
    return fx.GraphModule(root, graph)


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: f"{case[0].__name__}{case[1]}")
def test_codes_are_those_of_the_reference(case) -> None:
    made = quantized_product(*case)
    x = torch.randn((2, 8, 24, 9), generator=torch.Generator().manual_seed(1)) * 2
    forward = OpenVinoForward(made, [("x", torch.float32)], (tuple(x.shape),), 1)
    wanted, found = made(x)["y"], forward(x)["y"]
    steps = ((found - wanted) / NEXT).abs()
    assert steps.max() < 1.01  # of numbers between two codes either may be the nearest
    assert (steps > 0.5).float().mean() < 2e-4
    assert len(wanted.unique()) > 30
    products = [dtype for kind, dtype in forward.kernels() if kind in KINDS]
    assert products in (["i8"], ["u8"])


class Residual(trtnet.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 16, 1)
        self.silu, self.relu = nn.SiLU(), nn.ReLU()
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.relu(self.first(x))
        x = self.relu(self.wide(self.silu(self.deep(x))) + x)
        return self.fc(x.mean((2, 3)))


def plan(policy: trtnet.Policy, images: np.ndarray) -> trtnet.Plan:
    model, random = Residual(), np.random.default_rng(7)
    model.load_state_dict({name: (random.normal(size=tuple(p.shape)) / 3).astype(np.float32)
                           for name, p in model.named_parameters()})  # fmt: skip

    def define(table=None) -> trtnet.Network:
        net = trtnet.Network("torch", policy, calibration=table)
        net.output("y", model(net.input("x", images.shape)))
        return net

    seen = define()
    found = calibrate(trtnet.graph.read(seen.definition), seen.observed, [{"x": images}])
    return trtnet.build(define(found.table("minmax", weights_sha256=seen.weights_sha256)))


def sqnr(found: np.ndarray, wanted: np.ndarray) -> float:
    error = max(np.square(found.astype(np.float64) - wanted).sum(), 1e-30)
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / error))


@pytest.mark.parametrize(("base", "digits"), [("fp32", 35.0), ("fp16", 30.0), ("bf16", 25.0)])
def test_a_network_runs_on_8_bit_kernels(base, digits) -> None:
    images = np.random.default_rng(2).normal(size=(4, 3, 12, 10)).astype(np.float32)
    made = plan(trtnet.Policy("int8", base=base), images)
    with (
        trtnet.Session(made, device="cpu", runtime="openvino") as quick,
        trtnet.Session(made, device="cpu", runtime="torch") as plain,
    ):
        assert "rest torch" not in quick.runtime
        found, wanted = quick(images)["y"], plain(images)["y"]
        kernels = quick._engine._compiled.forward.kernels()
    products = [dtype for kind, dtype in kernels if kind in KINDS]
    assert len(products) == 4
    assert {*products} <= {"i8", "u8"}
    assert sqnr(found, wanted) > digits
    assert (found.argmax(1) == wanted.argmax(1)).all()


def test_weights_alone_in_8_bits() -> None:
    images = np.random.default_rng(2).normal(size=(4, 3, 12, 10)).astype(np.float32)
    model, random = Residual(), np.random.default_rng(7)
    model.load_state_dict({name: (random.normal(size=tuple(p.shape)) / 3).astype(np.float32)
                           for name, p in model.named_parameters()})  # fmt: skip
    net = trtnet.Network("torch", "int8-weights")
    net.output("y", model(net.input("x", images.shape)))
    made = trtnet.build(net)
    with (
        trtnet.Session(made, device="cpu", runtime="openvino") as quick,
        trtnet.Session(made, device="cpu", runtime="torch") as plain,
    ):
        assert sqnr(quick(images)["y"], plain(images)["y"]) > 55
