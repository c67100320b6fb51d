"""What TensorRT is told of a plugin, against recording doubles: no plugin runs without a GPU."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_network
import fake_quick
import numpy as np
import pytest
import torch

import trtnet
from trtnet import backend, graph
from trtnet.graph.plugins import mark_of
from trtnet.plugins import cdiv, ipluginv3, quick_plugins, registry, triton_kernel
from trtnet.plugins.tensorrt import register_declared

pytest.importorskip("triton")

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parents[1] / "runtime")
    APIS = importlib.import_module("tensorrt_api").APIS
LeakyGate = importlib.import_module("user_example").LeakyGate
kernel = importlib.import_module("user_example").leaky_gate_kernel

FULL = [api for api in APIS if api.module == "tensorrt"]


@trtnet.plugin("tests::pool_rows", version="2")
class PoolRows:
    """Sums of `window` rows each and the number of sums: two outputs, several sizes."""

    window: int = 2
    weights: tuple[float, ...] = (1.0,)
    name_of_it: str = "a"

    axes = ("N W",)
    formats = [("fp32", "->", "fp32", "int32"), ("fp16", "->", "fp16", "int32")]  # noqa: RUF012
    kernel = triton_kernel(
        kernel,
        grid=lambda self, x, y, n: [cdiv(x.shape[1], 64), x.shape[0] // self.window, 3],
        scalars=lambda self, x, y, n: [x.numel, x.shape[0] // self.window],
    )

    def outputs(self, x):
        rows = x.shape[0] // self.window
        return x.like([rows, x.shape[1]]), x.like([1], "int32")

    def reference(self, x):
        rows = x.shape[0] // self.window
        y = x[: rows * self.window].reshape(rows, self.window, x.shape[1]).sum(1)
        return y * self.weights[0], torch.full([1], rows, dtype=torch.int32, device=x.device)


@trtnet.plugin("tests::twice")
class Twice:
    """A kernel that is a Python function."""

    factor: float = 2.0
    formats = [("fp32", "->", "fp32"), ("fp16", "->", "fp16")]  # noqa: RUF012

    def outputs(self, x):
        return x.like([*x.shape[:-1], x.shape[-1] * 2])

    def reference(self, x):
        return torch.cat([x, x * self.factor], -1)

    def kernel(self, x, y):
        torch.cat([x, x * self.factor], -1, out=y)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_quick, "op", fake_quick.SimpleNamespace())
    monkeypatch.setattr(quick_plugins, "capability", lambda: 90)


def _network(plugin: Any, inputs: int, dtype: str = "fp32") -> tuple[trtnet.Network, Any]:
    net = trtnet.Network(fake_network.make_backend())
    xs = [net.input(f"x{i}", ("N", 8), dtype) for i in range(inputs)]
    return net, plugin(*xs)


def test_a_compiled_kernel_becomes_a_quick_plugin_whose_kernel_the_engine_holds() -> None:
    net, y = _network(LeakyGate(slope=0.25), 2)
    layer = net.definition.get_layer(0)
    assert (layer.name, y.shape) == ("/leaky_gate", (y.shape[0], 8))
    assert layer.plugin.request is fake_network.QuickPluginCreationRequest.STRICT_AOT
    assert layer.plugin.attributes == {"slope": 0.25}
    mark = mark_of(layer)
    assert mark is not None
    assert (mark.plugin, mark.embedded) == ("tests::leaky_gate", True)

    descs = fake_network.descs_of(net.definition._inputs)
    name, ptx, launch, scalars = layer.plugin.kernel(descs)
    assert name == "leaky_gate_kernel"
    assert ".target sm_90" in ptx
    assert "0f3E800000" in ptx  # 0.25 is in the code, not an argument
    known = {"N": 300}
    assert fake_quick.evaluate(launch.grid_x, known) == 3
    assert [fake_quick.evaluate(n, known) for n in scalars.items] == [2400]
    assert (launch.block_x.tree, launch.grid_y.tree) == (128, 1)


def test_an_empty_input_still_has_a_grid() -> None:
    net, _ = _network(LeakyGate(), 2)
    descs = fake_network.descs_of(net.definition._inputs)
    launch = net.definition.get_layer(0).plugin.kernel(descs)[2]
    assert fake_quick.evaluate(launch.grid_x, {"N": 0}) == 1


def test_several_outputs_versions_rows_of_numbers_and_symbolic_sizes() -> None:
    net, (y, n) = _network(PoolRows(window=3, weights=(0.5, 2.0)), 1, "fp16")
    assert (str(y.shape), n.shape, n.dtype) == ("(N // 3, 8)", (1,), trtnet.int32)
    definition = fake_quick.op.tests.pool_rows_v2
    assert definition.num_outputs == 2
    assert list(definition.attributes) == ["window", "weights", "name_of_it"]
    plugin = net.definition.get_layer(0).plugin
    np.testing.assert_array_equal(plugin.attributes["weights"], [0.5, 2.0])
    shapes = [desc.shape_expr for desc in plugin.output_descs(fake_network.descs_of(_in(net)))]
    found = [[fake_quick.evaluate(size, {"N": 10}) for size in shape] for shape in shapes]
    assert found == [[3, 8], [1]]


def _in(net: trtnet.Network) -> Any:
    return net.definition._inputs


def test_plugins_are_registered_once_and_lazily() -> None:
    assert not hasattr(fake_quick.op, "tests")
    net = trtnet.Network(fake_network.make_backend())
    x, gate = (net.input(name, (4, 4)) for name in "xg")
    LeakyGate()(LeakyGate(0.5)(x, gate), gate)
    assert [layer.plugin.attributes["slope"] for layer in net.definition._layers] == [0.5, 0.1]
    assert [layer.name for layer in net.definition._layers] == ["/leaky_gate", "#1/leaky_gate"]


def test_a_function_becomes_an_ipluginv3() -> None:
    net, y = _network(Twice(factor=3.0), 1)
    assert str(y.shape) == "(N, 16)"
    layer = net.definition.get_layer(0)
    mark = mark_of(layer)
    assert mark is not None
    assert not mark.embedded
    plugins = net.trt.get_plugin_registry()
    assert list(plugins.creators) == [("twice", "1", "tests")]
    register_declared(net.backend)
    Twice()(y)
    others = {("twice", "1", "tests")}
    assert others <= set(plugins.creators)
    assert plugins.registrations == len(plugins.creators)


def test_the_life_of_an_ipluginv3() -> None:
    """On TensorRT-RTX's own classes, which have the plugins' interfaces but no add_plugin_v3."""
    trt = backend.load("rtx").trt
    plugin = ipluginv3.create(backend.load("rtx"), Twice(factor=3.0))
    assert isinstance(plugin, trt.IPluginV3)
    fields = plugin.get_fields_to_serialize()
    creator = ipluginv3._creator(trt, "tests::twice", "1")
    assert (creator.name, creator.plugin_namespace, creator.plugin_version) == (
        "twice",
        "tests",
        "1",
    )
    again = creator.create_plugin("twice", fields, None)
    assert again.plugin.factor == 3.0
    copy = again.attach_to_context(None)
    assert (copy.plugin_name, copy.plugin.factor, copy.num_outputs) == ("twice", 3.0, 1)
    assert (copy.get_workspace_size([], []), copy.get_valid_tactics()) == (0, [])


@pytest.mark.parametrize(
    ("types", "format", "fits"),
    [
        (("FLOAT", "FLOAT"), "LINEAR", True),
        (("HALF", "HALF"), "LINEAR", True),
        (("HALF", "FLOAT"), "LINEAR", False),
        (("INT8", "INT8"), "LINEAR", False),
        (("FLOAT", "FLOAT"), "CHW4", False),
    ],
)
def test_formats_of_an_ipluginv3(types: tuple[str, str], format: str, fits: bool) -> None:
    trt = backend.load("rtx").trt
    plugin, row = ipluginv3.create(backend.load("rtx"), Twice()), []
    for name in types:
        one = trt.DynamicPluginTensorDesc()
        desc = trt.PluginTensorDesc()
        desc.type, desc.format = trt.DataType.__members__[name], getattr(trt.TensorFormat, format)
        one.desc = desc
        row.append(one)
    found = [plugin.supports_format_combination(i, row, 1) for i in range(2)]
    assert all(found) is fits


def test_a_plugin_layer_is_read_executed_and_written() -> None:
    net, y = _network(LeakyGate(slope=0.3), 2)
    net.output("y", y)
    read = graph.read(net.definition)
    (layer,) = read.layers
    assert layer.type == "PLUGIN_V3"
    assert dict(layer.attributes) == {
        "plugin_name": "leaky_gate",
        "plugin_namespace": "tests",
        "plugin_version": "1",
        "fields": '{"slope":0.3}',
    }
    assert graph.loads(graph.dumps(read)) == read
    rng = np.random.default_rng(0)
    x, gate = rng.standard_normal((2, 5, 8))
    out = trtnet.reference.run(read, {"x0": x, "x1": gate}, float64=True)["y"]
    np.testing.assert_allclose(out, np.where(x > 0, x, 0.3 * x) / (1 + np.exp(-gate)), rtol=1e-12)


def test_a_plugin_of_somebody_else_is_read_but_not_executed(raises: Callable[..., Any]) -> None:
    net, y = _network(LeakyGate(), 2)
    net.output("y", y)
    net.definition.get_layer(0).metadata = ""
    read = graph.read(net.definition)
    assert read.layers[0].attributes["plugin_name"] == "leaky_gate"
    with raises(trtnet.UnsupportedError, "where trtnet.plugin declares them", "/leaky_gate"):
        trtnet.reference.compile(read)


def test_a_gpu_is_needed_to_compile_for_it(
    raises: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("trtnet.hardware.gpus", list)
    with raises(trtnet.BackendError, "the GPU that the engine is built for", 'plugins="native"'):
        quick_plugins.capability()


@pytest.mark.parametrize("api", FULL, ids=str)
def test_tensorrt_has_what_the_doubles_have(api: Any) -> None:
    for kind in (fake_network.INetworkDefinition, fake_network.IExprBuilder):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                own = list(inspect.signature(method).parameters)[1:]
                assert api.accepts(kind.__name__, name, len(own), set()), f"{kind}.{name}"
    for name in ("IPluginV3QuickAOTBuild", "KernelLaunchParams", "IPluginV3OneBuild.num_outputs"):
        assert api.has(name)
    members = set(fake_network.QuickPluginCreationRequest.__members__)
    assert members == set(api.enums["QuickPluginCreationRequest"])
    assert {"get_creator", "register_creator"} <= set(api.members("IPluginRegistry", "methods"))


@pytest.mark.parametrize("api", FULL, ids=str)
def test_the_ipluginv3_has_the_signatures_that_tensorrt_calls(api: Any) -> None:
    layer, creator = ipluginv3._classes(backend.load("rtx").trt)
    checked = 0
    for base in ("IPluginV3", "IPluginV3OneBuild", "IPluginV3OneRuntime"):
        for name in api.members(base, "methods"):
            if name == "destroy":  # has a default
                continue
            own = list(inspect.signature(getattr(layer, name)).parameters)[1:]
            assert api.accepts(base, name, len(own), set()), f"{base}.{name}{own}"
            checked += 1
    assert checked == 13
    assert api.accepts("IPluginCreatorV3One", "create_plugin", 3, set())
    assert len(inspect.signature(creator.create_plugin).parameters) == 4


def test_the_double_of_tensorrt_plugin_has_only_its_names() -> None:
    own = {
        name
        for name, value in vars(fake_quick).items()
        if getattr(value, "__module__", "") == "fake_quick" and not name.startswith("_")
    }
    assert own - {"Definition", "QuickPlugin", "evaluate"} <= fake_quick.NAMES


def test_the_declared_plugins_are_known() -> None:
    assert {LeakyGate, PoolRows, Twice} <= set(registry.declared())
