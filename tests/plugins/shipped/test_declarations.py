"""The shipped plugins as declared: in networks, in engines, on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from shipped_cases import CASES, EMBEDDED, Case, network
from torch import Tensor

import trtnet
from trtnet import graph, hardware, nn
from trtnet.cli import plugin as command
from trtnet.cli.main import main
from trtnet.errors import ShapeError, UsageError
from trtnet.plugins import registry, shipped, testing
from trtnet.plugins.shipped import (
    ClassMap,
    DeformConv2d,
    NormalizeImage,
    NormalizeImageHalf,
    RoIAlign,
    YoloDecode,
)

ROOT = Path(__file__).resolve().parents[3]
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def relative_l2(got: np.ndarray, wanted: Tensor) -> float:
    assert got.shape == tuple(wanted.shape)
    assert np.isfinite(got).all()
    expected = wanted.double().numpy()
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


# Networks and engines


@each_case
def test_the_native_form_in_a_network(case: Case, check: Callable[..., None]) -> None:
    """On TensorRT-RTX, which has no plugins: in float64, in float32, and as an engine."""
    check(case.plugin, case.oracle, *case.inputs, dynamic=case.dynamic, rtol64=case.rtol64)


@each_case
def test_the_kernel_form_in_an_engine(case: Case) -> None:
    """One layer, which PyTorch executes by the reference where there is no GPU."""
    net = network(case, "torch", case.dynamic)
    assert [x.type for x in graph.read(net.definition).layers] == ["PLUGIN_V3"]
    shapes = {
        name: trtnet.Shapes.fixed(x.shape)
        for name, x in zip(case.plugin.inputs, case.inputs, strict=True)
        if not net.inputs[name].is_static
    }
    plan = trtnet.build(net, shapes)
    assert plan.sidecar["plugins"][0]["name"] == case.plugin.name
    wanted = case.oracle(*(torch.from_numpy(x) for x in case.inputs))
    with trtnet.Session(plan, device="cpu") as session:
        results = session(dict(zip(case.plugin.inputs, case.inputs, strict=True)))
    for i, expected in enumerate(wanted if isinstance(wanted, tuple) else (wanted,)):
        assert relative_l2(results[f"y{i}"], expected) <= 1e-6


class Deformed(nn.Module):
    """``torchvision.ops.DeformConv2d`` of three by three, by the plugin."""

    def __init__(self, channels: int, out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter.empty((out, channels, 3, 3))
        self.bias = nn.Parameter.empty((out,)) if bias else None
        self.op = DeformConv2d(padding=(1, 1))

    def forward(self, x: Any, offset: Any, mask: Any = None) -> Any:
        return self.op(x, offset, self.weight, self.bias, mask)


class Block(nn.Module):
    """Two deformable convolutions, one modulated and with a bias, one with neither."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Conv2d(4, 27, 3, padding=1)
        self.first = Deformed(4, 6, bias=True)
        self.second = Deformed(6, 5, bias=False)

    def forward(self, x: Any) -> Any:
        shift = self.shift(x)
        x = self.first(x, shift[:, :18], shift[:, 18:].sigmoid())
        return self.second(x, shift[:, :18])


class TorchBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Conv2d(4, 27, 3, padding=1)
        self.first = torchvision.ops.DeformConv2d(4, 6, 3, padding=1)
        self.second = torchvision.ops.DeformConv2d(6, 5, 3, padding=1, bias=False)

    forward = Block.forward


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("fp16", 1e-2)])
@pytest.mark.parametrize(("backend", "layers"), [("rtx", 0), ("torch", 2)])
def test_a_network_with_deform_conv2d_is_torchvisions(
    backend: str,
    layers: int,
    precision: str,
    limit: float,
    randomize: Callable[..., Any],
    build: Callable[..., bytes],
) -> None:
    original, block = randomize(TorchBlock()), Block()
    block.load_state_dict({name: value.numpy() for name, value in original.state_dict().items()})
    net = trtnet.Network(backend, precision)
    net.output("y", block(net.input("x", ("N", 4, "H", "W"))))
    images = np.random.default_rng(5).standard_normal((2, 4, 9, 7)).astype(np.float32)
    verification = trtnet.verify(net, original, {"x": images})
    assert verification.passed, str(verification)
    assert {"shift", "first", "second"} <= {row.module for row in verification.rows}
    types = [layer.type for layer in graph.read(net.definition).layers]
    assert types.count("PLUGIN_V3") == layers
    got = trtnet.reference.run(net.definition, {"x": images}, float64=True)["y"]
    with torch.no_grad():
        wanted = original.double()(torch.from_numpy(images).double())
    assert relative_l2(got, wanted) <= limit  # weights of fp16 are rounded
    if backend == "rtx":
        assert build(net, {"x": images.shape})


def test_half_precision_keeps_boxes_wide() -> None:
    net = trtnet.Network("torch", "fp16")
    x = net.input("x", (1, 4, 8, 8), "fp16")
    pooled = RoIAlign((2, 2), sampling_ratio=2)(x, net.input("boxes", (3, 5)))
    convolved = DeformConv2d()(x, net.input("offset", (1, 2, 8, 8), "fp16"), np.ones((6, 4, 1, 1)))
    image = NormalizeImageHalf((8, 8))(net.input("images", (1, 6, 6, 3), "uint8"))
    for i, tensor in enumerate((pooled, convolved, image)):
        assert tensor.dtype is trtnet.float16
        net.output(f"y{i}", tensor, "fp16")
    read = graph.read(net.definition)
    taken = [
        [read.tensors[name or ""].dtype for name in layer.inputs]
        for layer in read.layers
        if layer.type == "PLUGIN_V3"
    ]
    assert taken == [["float16", "float32"], ["float16"] * 5, ["uint8"]]


def test_what_deform_conv2d_and_roi_align_cost() -> None:
    convolution = CASES["deform_conv2d"]
    net = network(convolution, "torch", [x.shape for x in convolution.inputs])
    (row,) = graph.cost(graph.read(net.definition)).layers
    samples = 2 * 9 * 20 * 12  # images, taps, pixels, channels
    assert row.macs == samples * 10 // 2 + 4 * samples  # ten outputs, two groups
    pooling = CASES["roi_align"]
    net = network(pooling, "torch", [x.shape for x in pooling.inputs])
    (row,) = graph.cost(graph.read(net.definition)).layers
    assert row.macs == 4 * 4 * 5 * 10 * 4  # weights, boxes, channels, bins, samples


# The command, imports and errors

needs_no_gpu = pytest.mark.skipif(hardware.missing_gpu() is None, reason="there is a GPU")


@pytest.mark.gpu
@pytest.mark.skipif(hardware.missing_gpu() is not None, reason=str(hardware.missing_gpu()))
@pytest.mark.parametrize("name", shipped.IMPORT_PATHS)
def test_declared_kernels_on_a_gpu(name: str) -> None:
    made = registry.load(shipped.IMPORT_PATHS[name])
    kernels = [row for row in testing.check(made, cases=200) if row.form == "kernel"]
    assert [(row.cases, row.failure) for row in kernels] == [(200, None)] * len(made.kernels)


@needs_no_gpu
@pytest.mark.parametrize("name", shipped.IMPORT_PATHS)
def test_trtnet_plugin_test_finds_it_by_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    assert main(["plugin", "test", name, "--cases", "4"]) == 0
    out = capsys.readouterr().out
    formats = len(registry.load(shipped.IMPORT_PATHS[name]).kernels)
    assert f"trtnet::{name}: {4 * formats} examples agree with the reference" in out
    assert ("compiled for sm_80" in out) is (name in EMBEDDED)


def test_a_module_of_the_users_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command._place("roi_align") == shipped.IMPORT_PATHS["roi_align"]
    assert command._place("roi_align:Mine") == "roi_align:Mine"
    (tmp_path / "roi_align.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert command._place("roi_align") == "roi_align"


def test_declarations_need_neither_torch_nor_triton(tmp_path: Path) -> None:
    """Native forms work without; and nothing is declared before it is asked for."""
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'triton'): sys.modules[name] = None\n"
        "import trtnet\n"
        "from trtnet.plugins import registry, shipped\n"
        "assert not registry.declared()\n"
        "from trtnet.plugins.shipped import *\n"
        "assert len(registry.declared()) == len(shipped.IMPORT_PATHS)\n"
        "net = trtnet.Network('rtx')\n"
        "x, boxes = net.input('x', (1, 4, 8, 8)), net.input('boxes', ('K', 5))\n"
        "print(RoIAlign((7, 7), sampling_ratio=2)(x, boxes).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(K, 4, 7, 7)"


Call = Callable[[trtnet.Network], Any]
FEATURES = (1, 4, 8, 8)
WRONG: dict[str, tuple[type[Exception], str, Call]] = {
    "size": (
        UsageError,
        "size takes a number for rows",
        lambda net: ClassMap((8,))(net.input("x", FEATURES)),
    ),
    "stride": (
        UsageError,
        "stride takes a number for rows",
        lambda net: DeformConv2d(stride=(1, 1, 1))(
            net.input("x", FEATURES), net.input("o", (1, 2, 8, 8)), np.ones((4, 4, 1, 1))
        ),
    ),
    "channels": (
        ShapeError,
        "offset groups * 18",
        lambda net: DeformConv2d()(
            net.input("x", FEATURES), net.input("o", (1, 20, 8, 8)), np.ones((4, 4, 3, 3))
        ),
    ),
    "statistics": (
        UsageError,
        "mean and std do not fit",
        lambda net: NormalizeImage((4, 4), (0.5, 0.5), (0.1,))(
            net.input("x", (1, 8, 8, 2), "uint8")
        ),
    ),
    "std": (
        UsageError,
        "none of std is zero",
        lambda net: NormalizeImage((4, 4), (0.5,), (0.0,))(net.input("x", (1, 8, 8, 1), "uint8")),
    ),
    "images": (
        ShapeError,
        "(1, 8, 8, 3)",
        lambda net: NormalizeImage((4, 4))(net.input("x", (1, 8, 8, 4), "uint8")),
    ),
    "anchors": (
        UsageError,
        "a width and a height for each",
        lambda net: YoloDecode("yolov5", 8, (10, 13, 16))(net.input("x", (1, 21, 4, 4))),
    ),
    "style": (
        UsageError,
        "yolov3, yolov5, yolox, yolov8",
        lambda net: YoloDecode("yolov2", 8)(net.input("x", (1, 21, 4, 4))),
    ),
}


@pytest.mark.parametrize("backend", ["rtx", "torch"])
@pytest.mark.parametrize(("kind", "words", "call"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(
    kind: type[Exception], words: str, call: Call, backend: str, raises: Any
) -> None:
    with raises(kind, words):
        call(trtnet.Network(backend))
