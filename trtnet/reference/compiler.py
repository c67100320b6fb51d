"""Turns a read-back graph into a ``torch.fx.GraphModule`` with TensorRT's semantics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import fx, nn

from trtnet.dtypes import held_dtype_name
from trtnet.errors import NetworkError, UnsupportedError, UsageError, located
from trtnet.graph.malformed import only_layers
from trtnet.graph.types import Graph, Layer
from trtnet.host import without_gradients
from trtnet.reference import (
    attention,
    convolution,
    detection,
    elementwise,
    fill,
    index,
    linear,
    pooling,
    quantize,
    rearrange,
    reduction,
    resize,
)
from trtnet.reference.dtypes import HALF_METHODS, execution_dtype
from trtnet.reference.half_precision import rounds_once
from trtnet.reference.layer_context import LayerContext, Operation, TorchCall, is_shape_value
from trtnet.reference.module_builder import ModuleBuilder, identifier
from trtnet.reference.operations import registered_operation
from trtnet.reference.region_compiler import compile_conditional, compile_loop
from trtnet.reference.regions import LayerOrRegion, Region, group_regions
from trtnet.reference.type_rules import HOST_INPUTS, KEEPS_TYPE, check_types

OPERATIONS: dict[str, Operation] = {
    **attention.OPERATIONS,
    **convolution.OPERATIONS,
    **detection.OPERATIONS,
    **elementwise.OPERATIONS,
    **fill.OPERATIONS,
    **index.OPERATIONS,
    **linear.OPERATIONS,
    **pooling.OPERATIONS,
    **quantize.OPERATIONS,
    **rearrange.OPERATIONS,
    **reduction.OPERATIONS,
    **resize.OPERATIONS,
}

_CPU = torch.device("cpu")
_LARGEST_SHAPE_CONSTANT = 64  # elements; larger constants are no sizes, axes or counts


def compile(
    graph: Graph,
    *,
    float64: bool = False,
    device: str | torch.device = "cpu",
    outputs: Sequence[str] | None = None,
) -> fx.GraphModule:
    """A module that computes `graph` the way strongly typed TensorRT does.

    Layers take and give values of their tensors' types; half-precision layers compute in float32
    and round once. Weights are converted once and are buffers of the module.

    Args:
        graph: what :func:`trtnet.graph.read` returned.
        float64: compute every floating tensor in double precision; casts between floating types
            then do nothing.
        device: where it runs. On CUDA convolutions, matrix products and a few more run on
            PyTorch's half-precision kernels, which accumulate in float32; a convolution with a
            bias then rounds twice (see :mod:`trtnet.reference.half_precision`).
        outputs: names of the tensors to return, any of the graph; the network's outputs if None.

    Returns:
        A module whose arguments are the network inputs in order, and which returns a dict from
        tensor name to tensor.

    Raises:
        UnsupportedError: a layer that cannot be executed.
        NetworkError: operands of types TensorRT does not take together.
        UsageError: an output the graph does not have.
    """
    names = graph.outputs if outputs is None else tuple(outputs)
    unknown = [name for name in names if name not in graph.tensors]
    if unknown:
        raise UsageError("the network has no such tensor", got=", ".join(unknown))
    with without_gradients():
        return Compiler(graph, float64, torch.device(device)).module(names)


class Compiler:
    """Turns layers into the nodes of one module; a loop's body is compiled by a child.

    Attributes:
        graph: what is compiled.
        float64: whether floating values are computed in double precision.
        device: where values are computed that are no sizes, axes or counts.
        constants: the CONSTANT layers so far, by the name of their tensor.
    """

    def __init__(
        self, graph: Graph, float64: bool, device: torch.device, parent: Compiler | None = None
    ) -> None:
        self.graph, self.float64, self.device = graph, float64, device
        self.constants: dict[str, Layer] = parent.constants if parent else {}
        self._on_host: set[str] = parent._on_host if parent else set()
        self._builder = ModuleBuilder()
        self._values: dict[str, fx.Node] = {}

    def module(self, outputs: Sequence[str]) -> fx.GraphModule:
        """The module of the whole graph, which returns the tensors `outputs` by name."""
        for name in self.graph.inputs:
            self._values[name] = self._builder.placeholder(name)
            if is_shape_value(self.graph.tensors[name]):
                self._on_host.add(name)
        self._add(group_regions(self.graph))
        results = {}
        for name in outputs:
            with located(name):
                results[name] = self.value(name, self.device)
        module = self._builder.finish(results, float64=self.float64)
        module.meta["source"] = self.graph.source  # owns the memory some buffers are views of
        return module

    def body(
        self,
        units: Iterable[LayerOrRegion],
        inputs: Iterable[str],
        outputs: Iterable[tuple[str, torch.device]],
    ) -> fx.GraphModule:
        """A module for `units` alone: it takes the tensors `inputs` and returns `outputs`. Its
        ``meta["tensors"]`` are the names of the nodes that compute tensors."""
        child = Compiler(self.graph, self.float64, self.device, self)
        for name in inputs:
            child._values[name] = child._builder.placeholder(name)
        child._add(units)
        results = tuple(child.value(name, device) for name, device in outputs)
        module = child._builder.finish(results, float64=self.float64)
        module.meta["tensors"] = {name: node.name for name, node in child._values.items()}
        return module

    def call_region(self, region: Region, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Calls `module`, which computes `region`; its outputs become the region's."""
        node = self._builder.call_module(module, args, region.name)
        self._values.update(self._builder.items(node, region.outputs, region.name))

    def value(self, name: str, device: torch.device, wide: bool = False) -> fx.Node:
        """The value of tensor `name` on `device`; `wide` turns half precision into float32.

        Raises:
            NetworkError: the tensor belongs to the inside of a loop or conditional.
        """
        dtype = self.graph.tensors[name].dtype
        wide = wide and not self.float64 and dtype in HALF_METHODS
        if name in self.constants:
            target = torch.float32 if wide else execution_dtype(dtype, self.float64)
            array = self.constants[name].weights["weights"]
            return self._builder.buffer(name, array, dtype, target, device)
        if name not in self._values:
            raise NetworkError(
                "a tensor inside of a loop or conditional is used outside",
                module=name,
                fix="use the output of its LOOP_OUTPUT or CONDITIONAL_OUTPUT layer",
            )
        node = self._values[name]
        if wide:
            node = self._builder.convert(node, "float", f"{node.name}_wide")
        if device != self.device_of(name):
            node = self._builder.convert(node, "to", f"{node.name}_{device.type}", device)
        return node

    def device_of(self, name: str) -> torch.device:
        """Where the value of tensor `name` is computed: sizes, axes and counts on the CPU."""
        return _CPU if name in self._on_host else self.device

    def share_device(self, name: str, source: str | None) -> None:
        """Puts `name`, integers with the values of `source`, on the CPU if `source` is there."""
        if source in self._on_host and "int" in self.graph.tensors[name].dtype:
            self._on_host.add(name)

    def _add(self, units: Iterable[LayerOrRegion]) -> None:
        for unit in units:
            with located(unit.name), only_layers(unit.name):
                self._add_unit(unit)

    def _add_unit(self, unit: LayerOrRegion) -> None:
        if isinstance(unit, Region):
            compile_loop(self, unit) if unit.type == "LOOP" else compile_conditional(self, unit)
            return
        check_types(self.graph, unit)
        if unit.type == "CONSTANT":
            self._constant(unit)
        elif unit.type == "CONDITIONAL_INPUT":
            self._alias(unit)
        else:
            self._layer(unit)

    def _constant(self, layer: Layer) -> None:
        """Adds no node: each use makes a buffer, of the type and on the device that it needs."""
        (name,) = layer.outputs
        self.constants[name] = layer
        if layer.weights["weights"].size <= _LARGEST_SHAPE_CONSTANT:
            self._on_host.add(name)

    def _alias(self, layer: Layer) -> None:
        """The output is the input itself."""
        source, name = layer.inputs[0] or "", layer.outputs[0]
        if source in self.constants:
            self.constants[name] = self.constants[source]
        else:
            self._values[name] = self._values[source]
        if source in self._on_host:
            self._on_host.add(name)

    def _layer(self, layer: Layer) -> None:
        operation = _operation(layer.type)
        names = [name for name in layer.inputs if name is not None]
        is_host_value = all(name in self._on_host for name in names) and not layer.weights
        if layer.type in ("SHAPE", "FILL") or is_host_value:
            self._on_host.update(layer.outputs)
        call = operation(self._context(layer, wide=False))
        exact = layer.type in KEEPS_TYPE or self.float64 or rounds_once(call.function, self.device)
        if not exact and any(self.graph.tensors[name].dtype in HALF_METHODS for name in names):
            call = operation(self._context(layer, wide=True))
        self._outputs(layer, call, rounds=not exact)

    def _context(self, layer: Layer, wide: bool) -> LayerContext:
        return LayerContext(
            layer,
            tuple(self._input(layer, i, wide) for i in range(len(layer.inputs))),
            {name: self._weights(layer, name, wide) for name in layer.weights},
            self.graph.tensors,
            self.float64,
        )

    def _input(self, layer: Layer, position: int, wide: bool) -> fx.Node | None:
        name = layer.inputs[position]
        if name is None:
            return None
        if layer.type == "SHAPE":
            return self._values.get(name) or self.value(name, self.device)
        host_inputs = HOST_INPUTS.get(layer.type, ())
        on_host = position in host_inputs or self._on_host.issuperset(layer.outputs)
        return self.value(name, _CPU if on_host else self.device, wide=wide)

    def _weights(self, layer: Layer, name: str, wide: bool) -> fx.Node:
        array = layer.weights[name]
        dtype = held_dtype_name(array)
        target = torch.float32 if wide else execution_dtype(dtype, self.float64)
        return self._builder.buffer(f"{layer.name}.{name}", array, dtype, target, self.device)

    def _outputs(self, layer: Layer, call: TorchCall, rounds: bool) -> None:
        """Adds `call`; `rounds` if its result is float32 where the output is half precision."""
        if not layer.outputs:
            self._builder.call(call, identifier(layer.name), layer.name)
            return
        first = layer.outputs[0]
        name, dtype = identifier(first), self.graph.tensors[first].dtype
        if len(layer.outputs) > 1:
            node = self._builder.call(call, f"{identifier(layer.name)}_all", layer.name)
            self._values.update(self._builder.items(node, layer.outputs, layer.name))
        elif rounds and dtype in HALF_METHODS:
            node = self._builder.call(call, f"{name}_unrounded", layer.name)
            call = TorchCall(HALF_METHODS[dtype], (node,))
            self._values[first] = self._builder.call(call, name, layer.name)
        else:
            self._values[first] = self._builder.call(call, name, layer.name)
            self._values[first].meta["half"] = dtype in HALF_METHODS


def _operation(layer_type: str) -> Operation:
    """What layers of `layer_type` compute; raises :class:`UnsupportedError` if that is unknown."""
    operation = OPERATIONS.get(layer_type) or registered_operation(layer_type)
    if operation is None:
        raise UnsupportedError(f"layers of type {layer_type} cannot be executed")
    return operation
