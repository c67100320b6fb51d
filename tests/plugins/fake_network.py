"""A double of full TensorRT as far as a network of plugin layers needs it: enumerations and plugin
classes are TensorRT-RTX's own, networks are recorded."""

from __future__ import annotations

import enum
import sys
from collections import deque
from types import ModuleType, SimpleNamespace
from typing import Any

import fake_quick
import tensorrt_rtx as rtx
from fake_quick import QuickPlugin, ShapeExpr, TensorDesc

from trtnet.backend import Backend, description

__version__ = "11.4.0.106"
DataType, PluginCapabilityType = rtx.DataType, rtx.PluginCapabilityType


class LayerType(enum.Enum):
    PLUGIN_V3, CAST = 0, 1


class ILayer:
    def __init__(self, kind: LayerType, inputs: list[Any], outputs: list[Any]) -> None:
        self._kind, self._inputs, self._outputs = kind, inputs, outputs
        self.name, self.metadata = "", ""

    @property
    def type(self) -> LayerType:
        return self._kind

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]


class IPluginV3Layer(ILayer):
    plugin: Any


class ICastLayer(ILayer):
    to_type: Any


class ITensor:
    is_network_input = is_network_output = False

    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self._axes: dict[int, str] = {}

    def set_dimension_name(self, index: int, name: str) -> None:
        self._axes[index] = name

    def get_dimension_name(self, index: int) -> str:
        return self._axes.get(index, "")

    def sizes(self) -> list[Any]:
        """The shape; unknown sizes by a name."""
        return [
            n if n >= 0 else self._axes.get(axis, f"{self.name}.{axis}")
            for axis, n in enumerate(self.shape)
        ]


class INetworkDefinition:
    def __init__(self) -> None:
        self.name, self._inputs, self._outputs, self._layers = "", [], [], []

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def add_input(self, name: str, dtype: Any, shape: Any) -> ITensor:
        self._inputs.append(ITensor(name, dtype, tuple(shape)))
        self._inputs[-1].is_network_input = True
        return self._inputs[-1]

    def mark_output(self, tensor: ITensor) -> None:
        tensor.is_network_output = True
        self._outputs.append(tensor)

    def add_cast(self, input: ITensor, to_type: Any) -> ICastLayer:
        layer = ICastLayer(LayerType.CAST, [input], [ITensor("", to_type, input.shape)])
        layer.to_type = to_type
        self._layers.append(layer)
        return layer

    def add_plugin_v3(self, inputs: Any, shape_inputs: Any, plugin: Any) -> IPluginV3Layer:
        assert shape_inputs == []
        assert all(isinstance(tensor, ITensor) for tensor in inputs)
        ask = _ask_quick if isinstance(plugin, QuickPlugin) else ask_v3
        outputs = [
            ITensor("", dtype, tuple(n if isinstance(n, int) else -1 for n in shape))
            for dtype, shape in ask(plugin, inputs)
        ]
        layer = IPluginV3Layer(LayerType.PLUGIN_V3, list(inputs), outputs)
        layer.plugin = plugin
        self._layers.append(layer)
        return layer


def _ask_quick(plugin: QuickPlugin, inputs: list[ITensor]) -> list[tuple[Any, list[Any]]]:
    """First types, while sizes are fakes, then shapes, as TensorRT asks."""
    fakes = [TensorDesc(tuple(ShapeExpr() for _ in x.shape), x.dtype) for x in inputs]
    dtypes = [desc.dtype for desc in plugin.output_descs(fakes)]
    outputs = plugin.output_descs(descs_of(inputs))
    shapes = [[size.tree for size in desc.shape_expr] for desc in outputs]
    return list(zip(dtypes, shapes, strict=True))


def descs_of(inputs: list[ITensor]) -> list[TensorDesc]:
    return [TensorDesc(tuple(map(ShapeExpr, x.sizes())), x.dtype) for x in inputs]


class IDimensionExpr:
    def __init__(self, tree: Any) -> None:
        self.tree = tree

    def is_constant(self) -> bool:
        return isinstance(self.tree, int)

    def get_constant_value(self) -> int:
        return self.tree


class IExprBuilder:
    def constant(self, arg0: int) -> IDimensionExpr:
        assert type(arg0) is int
        return IDimensionExpr(arg0)

    def operation(self, arg0: Any, arg1: Any, arg2: Any) -> IDimensionExpr:
        assert isinstance(arg0, rtx.DimensionOperation)
        assert all(isinstance(side, IDimensionExpr) for side in (arg1, arg2))
        return IDimensionExpr((arg0.name, arg1.tree, arg2.tree))


class DimsExprs(list):
    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


def ask_v3(plugin: Any, inputs: list[ITensor]) -> list[tuple[Any, list[Any]]]:
    """What TensorRT learns of an IPluginV3's outputs when it is added."""
    build = plugin.get_capability_interface(PluginCapabilityType.BUILD)
    dtypes = build.get_output_data_types([x.dtype for x in inputs])
    shapes = [[IDimensionExpr(size) for size in x.sizes()] for x in inputs]
    found = build.get_output_shapes(shapes, [], IExprBuilder())
    assert len(dtypes) == len(found) == build.num_outputs
    return [(d, [n.tree for n in s]) for d, s in zip(dtypes, found, strict=True)]


class QuickPluginCreationRequest(enum.Enum):
    UNKNOWN, PREFER_JIT, PREFER_AOT, STRICT_JIT, STRICT_AOT = range(5)


class PluginRegistry:
    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}
        self.registrations = 0

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        return self.creators.get((type, version, plugin_namespace))

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        self.registrations += 1
        self.creators[creator.name, creator.plugin_version, plugin_namespace] = creator
        return True


class _Module(ModuleType):
    """This module, with what it lacks from TensorRT-RTX."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules[__name__] if name in globals() else rtx, name)


def make_backend() -> Backend:
    """A backend called ``tensorrt`` with networks, plugins and a registry of its own."""
    module = _Module("fake_tensorrt_module")
    registry = PluginRegistry()
    module.get_plugin_registry = lambda: registry  # type: ignore[attr-defined]
    module.IPluginV3QuickAOTBuild = module.KernelLaunchParams = object  # type: ignore[attr-defined]
    module.Builder = lambda logger: SimpleNamespace(  # type: ignore[attr-defined]
        create_network=lambda flags: INetworkDefinition()
    )
    return _FakeBackend(description("tensorrt"), module, SimpleNamespace(errors=deque()))


class _FakeBackend(Backend):
    def quick_plugins(self) -> Any:
        return fake_quick
