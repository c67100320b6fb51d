"""TensorRT's ``IPluginV3`` in Python, for kernels that are functions on PyTorch tensors.

TensorRT calls the plugin whenever its layer runs. The process that runs the engine therefore needs
the declaration, PyTorch and the plugin's creator, which is registered here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

from trtnet.backend import Backend
from trtnet.dtypes import dtype_of
from trtnet.plugins import registry
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.kernels import PythonKernel
from trtnet.plugins.spec import Format, TensorSpec, with_symbolic_sizes
from trtnet.plugins.symbolic_sizes import evaluate

_FIELD = "fields"  # the only PluginField: all attributes as JSON


def create(backend: Backend, plugin: Plugin) -> Any:
    """Returns an ``IPluginV3`` for `plugin`."""
    return _classes(backend.trt)[0](plugin)


def register(backend: Backend, kind: type[Plugin]) -> None:
    """Registers the creator of `kind` with TensorRT, unless it is registered already."""
    namespace, name = kind.name.split("::")
    plugins = backend.trt.get_plugin_registry()
    if plugins.get_creator(name, kind.version, namespace) is None:
        plugins.register_creator(_creator(backend.trt, kind.name, kind.version), namespace)


@functools.cache
def _creator(trt: ModuleType, name: str, version: str) -> Any:
    """Returns the creator of a plugin; it is kept because TensorRT's registry does not own it."""
    return _classes(trt)[1](name, version)


@functools.cache
def _classes(trt: Any) -> tuple[type[_Layer], type[_Creator]]:
    """Returns the classes of plugin and creator, whose bases are TensorRT's classes."""
    parts = (trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)
    layer = type("Layer", (_Layer, trt.IPluginV3, *parts), {"trt": trt})
    creator = type("Creator", (_Creator, trt.IPluginCreatorV3One), {"trt": trt, "layer": layer})
    return layer, creator


class _Layer:
    """The methods of an ``IPluginV3``, which TensorRT calls."""

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

    # Called while the engine is built.

    def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
        return [dtype.of(self.trt) for dtype in self._format_of(input_types).outputs]

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
        """Returns the TensorSpecs of the inputs.

        Their types are those of the first format: TensorRT asks for types in another method.
        """
        sizes = [
            tuple(n.get_constant_value() if n.is_constant() else -1 for n in dims)
            for dims in inputs
        ]
        dtypes = next(iter(self.plugin.kernels)).inputs
        return with_symbolic_sizes(list(map(TensorSpec, sizes, dtypes)))

    def supports_format_combination(self, pos: int, in_out: Sequence[Any], num_inputs: int) -> bool:
        if in_out[pos].desc.format != self.trt.TensorFormat.LINEAR:
            return False
        given = tuple(dtype_of(one.desc.type) for one in in_out[: pos + 1])
        rows = [(*entry.inputs, *entry.outputs) for entry in self.plugin.kernels]
        return any(row[: pos + 1] == given for row in rows)

    def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        pass

    def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        return 0  # the kernel allocates its memory by PyTorch

    def get_valid_tactics(self) -> list[int]:
        return []

    # Called while the engine runs.

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

        from trtnet.plugins.reference_execution import torch_dtype
        from trtnet.plugins.tensor_views import tensor_at

        kernel = self.plugin.kernels[self._format_of([desc.type for desc in input_desc])]
        assert isinstance(kernel, PythonKernel)
        device = torch.device("cuda", torch.cuda.current_device())
        tensors = [
            tensor_at(address, tuple(desc.dims), torch_dtype(dtype_of(desc.type)), device)
            for address, desc in zip((*inputs, *outputs), (*input_desc, *output_desc), strict=True)
        ]
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)), torch.no_grad():
            kernel.function(self.plugin, *tensors)

    def _format_of(self, types: Sequence[Any]) -> Format:
        """Returns the format whose inputs have these types."""
        given = tuple(map(dtype_of, types))
        return next(entry for entry in self.plugin.kernels if entry.inputs == given)


class _Creator:
    """The methods of an ``IPluginCreatorV3One``, which makes plugins of what an engine stores."""

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
        kind = registry.find(self._plugin, self.plugin_version)
        return self.layer(registry.restore(kind, fields))
