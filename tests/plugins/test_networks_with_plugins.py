"""A plugin in a network: both forms, read back, executed, verified, priced, saved."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import graph, nn
from trtnet.engines.torch.passes import optimize
from trtnet.plugins import (
    cdiv,
    kernel_execution,
    maximum,
    minimum,
    reference_execution,
)
from trtnet.reference.shapes import infer

LeakyGate = importlib.import_module("user_example").LeakyGate


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = LeakyGate(slope=0.2)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Any) -> Any:
        values, gates = self.conv(x).chunk(2, 1)
        return self.head(self.gate(values, gates))


class TorchGate(torch.nn.Module):
    def forward(self, x: Any, gate: Any) -> Any:
        return torch.nn.functional.leaky_relu(x, 0.2) * torch.sigmoid(gate)


class TorchModel(torch.nn.Module):
    def __init__(self, slope: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.gate = TorchGate()
        self.head = torch.nn.Conv2d(4, 2, 1)

    forward = Model.forward


@trtnet.plugin("tests::tiles")
class Tiles:
    """Row and column maxima of tiles: two outputs of computed sizes."""

    size: int = 4
    axes = ("N H W",)
    formats = [("fp32", "->", "fp32", "int32"), ("fp16", "->", "fp16", "int32")]  # noqa: RUF012

    def outputs(self, x: Any) -> Any:
        n, h, w = x.shape
        tall = minimum(cdiv(h, self.size) * self.size, maximum(h * 2, 1)) - h + n
        return x.like([n, h - 1 + 1, w * 2 // 2]), x.like([tall], "int32")

    def reference(self, x: Any) -> Any:
        n, h = x.shape[:2]
        tall = min(-(-h // self.size) * self.size, max(h * 2, 1)) - h + n
        return x * 3, torch.full([tall], 5, dtype=torch.int32, device=x.device)

    def kernel(self, x: Any, y: Any, n: Any) -> None:
        raise AssertionError("there is no GPU here")

    def cost(self, x: tuple[int, ...]) -> int:
        return 10 * x[0]


def _network(backend: str, precision: str = "fp32", **options: Any) -> trtnet.Network:
    original = TorchModel()
    model = Model()
    model.load_state_dict({k: v.numpy().copy() for k, v in original.state_dict().items()})
    net = trtnet.Network(backend, precision, **options)
    net.output("y", model(net.input("x", ("N", 3, "H", "W"))))
    return net


FORMS = [("rtx", "auto"), ("rtx", "native"), ("torch", "native"), ("torch", "kernel")]


@pytest.mark.parametrize(("backend", "form"), FORMS)
def test_every_form_is_verified_under_the_plugins_own_path(backend: str, form: str) -> None:
    net = _network(backend, plugins=form)
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 7)).astype(np.float32)
    result = trtnet.verify(net, TorchModel().eval(), {"x": x})
    assert result.passed
    assert "gate" in {row.module for row in result.rows}
    types = [layer.type for layer in graph.read(net.definition).layers]
    assert ("PLUGIN_V3" in types) is (form == "kernel")


@pytest.mark.parametrize("form", ["native", "kernel"])
def test_a_wrong_slope_is_found_in_the_plugin(form: str) -> None:
    original, model = TorchModel(), Model()
    model.gate = LeakyGate(slope=0.3)
    model.load_state_dict({k: v.numpy().copy() for k, v in original.state_dict().items()})
    net = trtnet.Network("torch", plugins=form)
    net.output("y", model(net.input("x", (1, 3, 8, 8))))
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    result = trtnet.verify(net, original.eval(), {"x": x})
    assert not result.passed
    assert result.first_divergent == "gate"


def test_half_precision_is_computed_in_float32_and_rounded_once() -> None:
    net = trtnet.Network("torch", "fp16")
    x, gate = (net.input(name, (64, 64), "fp16") for name in ("x", "gate"))
    net.output("y", LeakyGate()(x, gate), "fp16")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 64, 64)).astype(np.float16)
    wide = (torch.from_numpy(array.astype(np.float32)) for array in (a, b))
    wanted = LeakyGate().reference(*wide).half().numpy()
    got = trtnet.reference.run(net.definition, {"x": a, "gate": b})["y"]
    np.testing.assert_array_equal(got, wanted)


def test_the_policy_chooses_the_format() -> None:
    for policy, wanted in (
        ("fp16", "float16"),
        (trtnet.Policy(compute="fp16", keep={"gate": "fp32"}), "float32"),
    ):
        net = _network("torch", policy)
        read = graph.read(net.definition)
        (layer,) = [layer for layer in read.layers if layer.type == "PLUGIN_V3"]
        assert [read.tensors[name or ""].dtype for name in layer.inputs] == [wanted] * 2


def test_a_stand_in_is_read_as_one_layer_and_nothing_else() -> None:
    net = _network("torch")
    read = graph.read(net.definition)
    names = [(layer.name, layer.type) for layer in read.layers]
    assert ("gate/leaky_gate", "PLUGIN_V3") in names
    assert not {"FILL", "IDENTITY", "CAST"} & {kind for _, kind in names}
    made = {name for layer in read.layers for name in layer.outputs}
    assert set(read.tensors) == made | {"x"}
    assert graph.lint(read) == []
    assert graph.loads(graph.dumps(read)) == read
    code = trtnet.reference.compile(read).code
    assert "'tests::leaky_gate', '1', '{\"slope\":0.2}'" in code


def test_several_outputs_of_computed_sizes() -> None:
    net = trtnet.Network("torch")
    x = net.input("x", ("N", "H", 6))
    y, n = Tiles(size=4)(x)
    assert (n.dtype, y.shape[2]) == (trtnet.int32, 6)
    net.output("y", trtnet.relu(y))
    net.output("n", n)
    array = np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)
    got = trtnet.reference.run(net.definition, {"x": array})
    np.testing.assert_allclose(got["y"], np.maximum(3 * array, 0), rtol=1e-6)
    np.testing.assert_array_equal(got["n"], np.full(5, 5))  # min(8, 10) - 5 + 2
    shapes = infer(graph.read(net.definition), {"x": (2, 5, 6)})
    assert shapes["n"] == (5,)
    types = [layer.type for layer in graph.read(net.definition).layers]
    assert sorted(types) == ["ACTIVATION", "PLUGIN_V3"]


def test_the_cost_of_a_plugin_is_what_it_declares() -> None:
    net = trtnet.Network("torch")
    y, n = Tiles()(net.input("x", (3, 5, 8), "fp16"))
    net.output("y", y, "fp16")
    net.output("n", n)
    read = graph.read(net.definition)
    (row,) = [row for row in graph.cost(read).layers if row.type == "PLUGIN_V3"]
    assert (row.macs, row.precision, row.bytes_read) == (30, "fp16", 240)
    assert row.bytes_written == 240 + 4 * 6  # min(8, 10) - 5 + 3 integers
    gate = graph.cost(graph.read(_network("torch").definition), {"x": (1, 3, 4, 4)})
    (row,) = [row for row in gate.layers if row.type == "PLUGIN_V3"]
    assert (row.macs, row.precision) == (0, None)


def test_what_a_backend_cannot_have_is_refused(raises: Callable[..., Any]) -> None:
    net = trtnet.Network("rtx")
    with raises(trtnet.UnsupportedError, "tests::tiles has no native form", "rtx has no plugins"):
        Tiles()(net.input("x", (2, 4, 4)))
    net = trtnet.Network("rtx", plugins="kernel")
    x = net.input("x", (2, 4, 4))
    with raises(trtnet.UnsupportedError, "rtx has no plugins", 'plugins="native"'):
        LeakyGate()(x, x)
    with raises(trtnet.UsageError, "no form of plugins 'both'", "auto, native, kernel"):
        trtnet.Network("rtx", plugins="both")


def test_a_native_form_with_another_number_of_outputs(raises: Callable[..., Any]) -> None:
    @trtnet.plugin("tests::torn")
    class Torn:
        formats = [("fp32", "->", "fp32")]  # noqa: RUF012

        def outputs(self, x: Any) -> Any:
            return x

        def reference(self, x: Any) -> Any:
            return x * 1

        def native(self, x: Any) -> Any:
            return x, x

    with raises(trtnet.NetworkError, "another number of outputs"):
        Torn()(trtnet.Network("rtx").input("x", (2,)))


def test_attributes_that_do_not_fit_into_a_network(raises: Callable[..., Any]) -> None:
    @trtnet.plugin("tests::long")
    class Long:
        row: tuple[int, ...] = ()
        formats = [("fp32", "->", "fp32")]  # noqa: RUF012

        def outputs(self, x: Any) -> Any:
            return x

        def reference(self, x: Any) -> Any:
            return x * 1

        def kernel(self, x: Any, y: Any) -> None:
            y.copy_(x)

    with raises(trtnet.UnsupportedError, "tests::long", "too long"):
        Long(tuple(range(2000)))(trtnet.Network("torch").input("x", (2,)))


# Engines


def _plan(net: trtnet.Network) -> trtnet.Plan:
    sizes = trtnet.Shapes((1, 3, 4, 4), (2, 3, 9, 7), (4, 3, 16, 16))
    return trtnet.build(net, {"x": sizes})


def test_an_engine_of_the_torch_backend_executes_the_plugin() -> None:
    plan = _plan(_network("torch"))
    assert plan.sidecar["plugins"] == [
        {
            "name": "tests::leaky_gate",
            "version": "1",
            "module": "user_example",
            "embedded": False,
        }
    ]
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 7)).astype(np.float32)
    with trtnet.Session(plan, device="cpu") as session:
        got = session(x)["y"]
    with torch.no_grad():
        wanted = TorchModel()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_on_a_gpu_kernels_take_the_place_of_references() -> None:
    """Without one what runs there falls back to the reference."""
    module = trtnet.reference.compile(graph.read(_network("torch").definition))
    x = torch.randn(1, 3, 8, 8)
    wanted = module(x)["y"]
    optimize(module)
    targets = [node.target for node in module.graph.nodes]
    assert kernel_execution.execute_plugin in targets
    assert reference_execution.reference not in targets
    assert torch.equal(module(x)["y"], wanted)


def test_an_engine_in_native_form_needs_no_plugin() -> None:
    for backend in ("rtx", "torch"):
        assert _plan(_network(backend, plugins="native")).sidecar["plugins"] == []


def test_another_slope_is_another_engine() -> None:
    plans = []
    for slope in (0.1, 0.1, 0.2):
        net = trtnet.Network("torch")
        x = net.input("x", (2, 3))
        net.output("y", LeakyGate(slope)(x, x))
        plans.append(trtnet.build(net))
    assert plans[0].sidecar["recipe"] == plans[1].sidecar["recipe"]
    assert plans[0].sidecar["recipe"] != plans[2].sidecar["recipe"]


def test_an_engine_without_its_plugin_names_the_missing_import(
    monkeypatch: pytest.MonkeyPatch, raises: Callable[..., Any]
) -> None:
    plan = _plan(_network("torch"))
    monkeypatch.setattr("trtnet.plugins.registry._DECLARED", {})
    with raises(trtnet.PlanError, "needs the plugin tests::leaky_gate", "import user_example"):
        trtnet.Session(plan, device="cpu")
    with raises(trtnet.UnsupportedError, "tests::leaky_gate version 1 is not declared"):
        trtnet.Session(trtnet.Plan(plan.engine), device="cpu")


def test_an_engine_that_holds_its_kernels_needs_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = importlib.import_module("trtnet.plugins.registry")
    monkeypatch.setattr(registry, "_DECLARED", {})
    registry.require([registry.NeededPlugin("a::b", "1", "m", embedded=True)])
    with pytest.raises(
        trtnet.PlanError, match=r"on a command line: --import m, .*in Python: import m first"
    ):
        registry.require([registry.NeededPlugin("a::b", "1", "m")])


def test_an_engine_finds_the_plugins_of_trtnet_by_itself() -> None:
    """In a process of its own: in this one they may have been imported."""
    code = (
        "from trtnet.plugins import registry\n"
        "entry = registry.NeededPlugin('trtnet::class_map', '1', 'x')\n"
        "assert not registry.declared()\n"
        "registry.require([entry])\n"
        "assert [made.name for made in registry.declared()] == ['trtnet::class_map']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
