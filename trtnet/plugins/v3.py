"""``IPluginV3`` in Python: for kernels that are functions on PyTorch tensors.

TensorRT calls such a plugin back whenever its layer runs, so the process that runs the engine needs
the declaration, PyTorch and the plugin's creator, which is registered here.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.dtypes import dtype_of
from trtnet.plugins import registry
from trtnet.plugins.kernels import PythonKernel
from trtnet.plugins.sizes import evaluate
from trtnet.plugins.spec import Format, TensorSpec, numbered

if TYPE_CHECKING:
    from trtnet.backend import Backend
    from trtnet.plugins.declaration import Plugin

_FIELD = "fields"  # the one field: all attributes as JSON


def create(backend: Backend, plugin: Plugin) -> Any:
    """An ``IPluginV3`` for `plugin`."""
    return _classes(backend.trt)[0](plugin)


def register(backend: Backend, kind: type[Plugin]) -> None:
    """Makes TensorRT's plugin registry know `kind`, once."""
    namespace, name = kind.name.split("::")
    plugins = backend.trt.get_plugin_registry()
    if plugins.get_creator(name, kind.version, namespace) is None:
        plugins.register_creator(_creator(backend.trt, kind.name, kind.version), namespace)


@functools.cache
def _creator(trt: ModuleType, name: str, version: str) -> Any:
    """Kept as long as the process lives: TensorRT's registry does not own it."""
    return _classes(trt)[1](name, version)


@functools.cache
def _classes(trt: Any) -> tuple[type[_Layer], type[_Creator]]:
    """The plugin and its creator; their bases are known once TensorRT is loaded."""
    parts = (trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    layer = type("Layer", (_Layer, trt.IPluginV3, *parts), {"trt": trt})
    creator = type("Creator", (_Creator, trt.IPluginCreatorV3One), {"trt": trt, "layer": layer})
    return layer, creator


class _Layer:
    """What an ``IPluginV3`` does; TensorRT calls its methods."""

    trt: ClassVar[Any]

    def __init__(self, plugin: Plugin) -> None:
        trt = self.trt
        for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild):
            base.__init__(self)
        trt.IPluginV3OneRuntime.__init__(self)
        self.plugin = plugin
        self._fields = plugin.fields.encode()  # a PluginField only points to its data
        self.plugin_namespace, self.plugin_name = plugin.name.split("::")
        self.plugin_version = plugin.version
        self.num_outputs = len(next(iter(plugin.kernels)).outputs)

    def get_capability_interface(self, type: Any) -> Any:
        return self

    def clone(self) -> _Layer:
        return type(self)(self.plugin)

    # While the engine is built

    def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
        return [dtype.of(self.trt) for dtype in self._entry(input_types).outputs]

    def get_output_shapes(
        self, inputs: Sequence[Any], shape_inputs: Sequence[Any], expr_builder: Any
    ) -> list[Any]:
        def constant(size: Any) -> Any:
            return expr_builder.constant(size) if isinstance(size, int) else size

        def apply(operation: str, left: Any, right: Any) -> Any:
            kind = getattr(self.trt.DimensionOperation, operation)
            return expr_builder.operation(kind, constant(left), constant(right))

        shapes = []
        for spec in self.plugin.rule(self._specs(inputs)):
            shape = self.trt.DimsExprs(spec.ndim)
            for axis, size in enumerate(spec.shape):
                shape[axis] = constant(evaluate(size, lambda i, a: inputs[i][a], apply))
            shapes.append(shape)
        return shapes

    def _specs(self, inputs: Sequence[Any]) -> tuple[TensorSpec, ...]:
        """What the rule sees. TensorRT asks for types elsewhere, so any that fit will do."""
        sizes = [
            tuple(n.get_constant_value() if n.is_constant() else -1 for n in dims)
            for dims in inputs
        ]
        return numbered(list(map(TensorSpec, sizes, next(iter(self.plugin.kernels)).inputs)))

    def supports_format_combination(self, pos: int, in_out: Sequence[Any], num_inputs: int) -> bool:
        if in_out[pos].desc.format != self.trt.TensorFormat.LINEAR:
            return False
        given = tuple(dtype_of(one.desc.type) for one in in_out[: pos + 1])
        rows = [(*entry.inputs, *entry.outputs) for entry in self.plugin.kernels]
        return any(row[: pos + 1] == given for row in rows)

    def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        pass

    def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        return 0  # PyTorch gives the kernel its memory

    def get_valid_tactics(self) -> list[int]:
        return []

    # While it runs

    def set_tactic(self, tactic: int) -> None:
        pass

    def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        pass

    def attach_to_context(self, resource_context: Any) -> _Layer:
        return self.clone()

    def get_fields_to_serialize(self) -> Any:
        field = self.trt.PluginField(_FIELD, self._fields, self.trt.PluginFieldType.CHAR)
        return self.trt.PluginFieldCollection([field])

    def enqueue(
        self,
        input_desc: Sequence[Any],
        output_desc: Sequence[Any],
        inputs: Sequence[int],
        outputs: Sequence[int],
        workspace: int,
        stream: int,
    ) -> None:
        import torch

        from trtnet.engines.torch.views import view
        from trtnet.plugins.running import torch_dtype

        kernel = self.plugin.kernels[self._entry([desc.type for desc in input_desc])]
        assert isinstance(kernel, PythonKernel)
        place = torch.device("cuda", torch.cuda.current_device())
        tensors = [
            view(address, tuple(desc.dims), torch_dtype(dtype_of(desc.type)), place)
            for address, desc in zip((*inputs, *outputs), (*input_desc, *output_desc), strict=True)
        ]
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)), torch.no_grad():
            kernel.function(self.plugin, *tensors)

    def _entry(self, types: Sequence[Any]) -> Format:
        given = tuple(map(dtype_of, types))
        return next(entry for entry in self.plugin.kernels if entry.inputs == given)


class _Creator:
    """What makes such plugins out of an engine's bytes."""

    trt: ClassVar[Any]
    layer: ClassVar[type[_Layer]]

    def __init__(self, name: str, version: str) -> None:
        self.trt.IPluginCreatorV3One.__init__(self)
        self._plugin = name
        self.plugin_namespace, self.name = name.split("::")
        self.plugin_version = version
        field = self.trt.PluginField(_FIELD, b"", self.trt.PluginFieldType.CHAR)
        self.field_names = self.trt.PluginFieldCollection([field])

    def create_plugin(self, name: str, field_collection: Any, phase: Any) -> _Layer:
        fields = field_collection[0].data.tobytes().decode()
        return self.layer(registry.find(self._plugin, self.plugin_version)(**json.loads(fields)))
