"""Turns a read-back graph into a ``torch.fx.GraphModule`` with TensorRT's semantics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from trtnet.dtypes import held_dtype_name
from trtnet.errors import NetworkError, UnsupportedError, UsageError
from trtnet.graph.types import Graph, Layer
from trtnet.reference import (
    attention,
    convolution,
    detection,
    elementwise,
    fill,
    index,
    linear,
    plugin,
    pooling,
    quantize,
    reduction,
    resize,
    shape,
)
from trtnet.reference.dtypes import decode, execution_dtype
from trtnet.reference.fusion import fuse, overwrite
from trtnet.reference.integer import scale_at_the_end
from trtnet.reference.native import native
from trtnet.reference.region_compiler import compile_conditional, compile_loop
from trtnet.reference.regions import Region, Unit, nest
from trtnet.reference.site import Call, Site, is_shape_value
from trtnet.reference.types import EXACT, HOST_INPUTS, check

OPERATIONS = {
    **attention.OPERATIONS,
    **convolution.OPERATIONS,
    **detection.OPERATIONS,
    **elementwise.OPERATIONS,
    **fill.OPERATIONS,
    **index.OPERATIONS,
    **linear.OPERATIONS,
    **plugin.OPERATIONS,
    **pooling.OPERATIONS,
    **quantize.OPERATIONS,
    **reduction.OPERATIONS,
    **resize.OPERATIONS,
    **shape.OPERATIONS,
}

_HALF = {"float16": "half", "bfloat16": "bfloat16"}
_HOST = torch.device("cpu")
# What reading a layer raises that TensorRT cannot have made: a damaged or hand-made graph.
_MALFORMED = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
_HOST_CONSTANT = 64  # constants up to this size may be shape values


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
        device: where it runs. On CUDA half-precision layers run in half precision, which
            PyTorch and cuDNN accumulate in float32; a convolution takes the addition and the ReLU
            behind it along and rounds once behind them.
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
    with torch.no_grad():
        return Compiler(graph, float64, torch.device(device)).module(names)


class Compiler:
    """Turns layers into the nodes of one ``fx.Graph``; a loop's body is compiled by a child."""

    def __init__(
        self, graph: Graph, float64: bool, device: torch.device, parent: Compiler | None = None
    ) -> None:
        self.graph, self.float64, self.device = graph, float64, device
        self.fx = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.attributes: dict[str, Any] = {}  # of the module: buffers, and bodies of regions
        self.memo: dict[tuple[object, ...], fx.Node] = {}
        self.constants: dict[str, Layer] = parent.constants if parent else {}
        self.on_host: set[str] = parent.on_host if parent else set()

    def module(self, outputs: Sequence[str]) -> fx.GraphModule:
        for name in self.graph.inputs:
            self._placeholder(name)
            if is_shape_value(self.graph.tensors[name]):
                self.on_host.add(name)
        self._add(nest(self.graph))
        self.fx.output({name: self.value(name, self.device) for name in outputs})
        module = self._finish()
        module.meta["source"] = self.graph.source  # owns the memory some buffers are views of
        return module

    def _finish(self) -> fx.GraphModule:
        scale_at_the_end(self.fx, self.attributes, self.float64)
        if self.device.type == "cuda":
            fuse(self.fx)
        overwrite(self.fx)
        self.fx.eliminate_dead_code(is_kept)
        return fx.GraphModule(self.attributes, self.fx, "Reference").eval()

    def _placeholder(self, name: str) -> None:
        self.values[name] = self.fx.placeholder(_identifier(name))

    def _add(self, units: Iterable[Unit]) -> None:
        for unit in units:
            try:
                self._add_unit(unit)
            except _MALFORMED as error:
                raise NetworkError(
                    "inputs, outputs or attributes that a layer of its type does not have",
                    module=unit.name,
                    got=f"{unit.type}: {error!r}",
                ) from error

    def _add_unit(self, unit: Unit) -> None:
        if isinstance(unit, Region):
            compile_loop(self, unit) if unit.type == "LOOP" else compile_conditional(self, unit)
            return
        check(self.graph, unit)
        if unit.type == "CONSTANT":
            self._constant(unit)
        elif unit.type == "CONDITIONAL_INPUT":
            self._alias(unit)
        else:
            self._layer(unit)

    def _constant(self, layer: Layer) -> None:
        """Becomes a buffer where it is used, of the type and on the device it is used in."""
        (name,) = layer.outputs
        self.constants[name] = layer
        if layer.weights["weights"].size <= _HOST_CONSTANT:
            self.on_host.add(name)

    def _alias(self, layer: Layer) -> None:
        """The output is the input itself."""
        source, name = layer.inputs[0] or "", layer.outputs[0]
        if source in self.constants:
            self.constants[name] = self.constants[source]
        else:
            self.values[name] = self.values[source]
        if source in self.on_host:
            self.on_host.add(name)

    def _layer(self, layer: Layer) -> None:
        if layer.type not in OPERATIONS:
            raise UnsupportedError(
                f"layers of type {layer.type} cannot be executed", module=layer.name
            )
        names = [name for name in layer.inputs if name is not None]
        if layer.type in ("SHAPE", "FILL") or all(name in self.on_host for name in names):
            self.on_host.update(layer.outputs)
        call = OPERATIONS[layer.type](self._site(layer, wide=False))
        exact = layer.type in EXACT or self.float64 or native(call.function, self.device)
        if not exact and any(self.graph.tensors[name].dtype in _HALF for name in names):
            call = OPERATIONS[layer.type](self._site(layer, wide=True))
        self._outputs(layer, call, rounds=not exact)

    def _site(self, layer: Layer, wide: bool) -> Site:
        return Site(
            layer,
            tuple(self._input(layer, i, wide) for i in range(len(layer.inputs))),
            {name: self._weights(layer, name, wide) for name in layer.weights},
            self.graph.tensors,
            self.float64,
        )

    def _outputs(self, layer: Layer, call: Call, rounds: bool) -> None:
        if not layer.outputs:
            self._call(call, _identifier(layer.name), layer.name)
            return
        first = layer.outputs[0]
        method = _HALF.get(self.graph.tensors[first].dtype) if rounds else None
        if len(layer.outputs) > 1:
            node = self._call(call, f"{_identifier(layer.name)}_all", layer.name)
            self._items(node, layer.outputs, layer.name)
        elif method:
            node = self._call(call, f"{_identifier(first)}_unrounded", layer.name)
            self.values[first] = self._call(Call(method, (node,)), _identifier(first), layer.name)
        else:
            self.values[first] = self._call(call, _identifier(first), layer.name)
            self.values[first].meta["half"] = self.graph.tensors[first].dtype in _HALF

    def _items(self, node: fx.Node, outputs: Iterable[str], owner: str) -> None:
        for i, name in enumerate(outputs):
            self.values[name] = self._call(Call(_item, (node, i)), _identifier(name), owner)

    def _call(self, call: Call, name: str, owner: str) -> fx.Node:
        op = "call_method" if isinstance(call.function, str) else "call_function"
        node = self.fx.create_node(op, call.function, call.args, call.kwargs, name)
        node.meta["layer"] = owner
        return node

    def _input(self, layer: Layer, position: int, wide: bool) -> fx.Node | None:
        name = layer.inputs[position]
        if name is None:
            return None
        if layer.type == "SHAPE":
            return self.values.get(name) or self.value(name, self.device)
        host = position in HOST_INPUTS.get(layer.type, ()) or self.on_host.issuperset(layer.outputs)
        return self.value(name, _HOST if host else self.device, wide=wide)

    def value(self, name: str, device: torch.device, wide: bool = False) -> fx.Node:
        """The value of tensor `name` on `device`; `wide` turns half precision into float32."""
        dtype = self.graph.tensors[name].dtype
        wide = wide and not self.float64 and dtype in _HALF
        if name in self.constants:
            target = torch.float32 if wide else execution_dtype(dtype, self.float64, name)
            array = self.constants[name].weights["weights"]
            return self._buffer(name, decode(array, dtype), target, device)
        if name not in self.values:
            raise NetworkError(
                "a tensor inside of a loop or conditional is used outside",
                module=name,
                fix="use the output of its LOOP_OUTPUT or CONDITIONAL_OUTPUT layer",
            )
        node = self.values[name]
        if wide:
            node = self._once(node, "float", f"{node.name}_wide")
        if device != self.place(name):
            node = self._once(node, "to", f"{node.name}_{device.type}", device)
        return node

    def _once(self, node: fx.Node, method: str, name: str, *args: Any) -> fx.Node:
        key = (node, method, *args)
        if key not in self.memo:
            self.memo[key] = self.fx.create_node("call_method", method, (node, *args), name=name)
        return self.memo[key]

    def _weights(self, layer: Layer, name: str, wide: bool) -> fx.Node:
        array = layer.weights[name]
        dtype = held_dtype_name(array)
        target = torch.float32 if wide else execution_dtype(dtype, self.float64, layer.name)
        tensor = decode(array, dtype)
        if self.device.type == "cuda" and tensor.dim() == 4 and dtype in _HALF and not wide:
            tensor = tensor.contiguous(memory_format=torch.channels_last)  # cuDNN's fast layout
        return self._buffer(f"{layer.name}.{name}", tensor, target, self.device)

    def _buffer(
        self, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device
    ) -> fx.Node:
        key = (name, dtype, device)
        if key not in self.memo:
            attribute = self._attribute(name, tensor.to(device, dtype))
            self.memo[key] = self.fx.create_node("get_attr", attribute, name=attribute)
        return self.memo[key]

    def _attribute(self, name: str, value: Any) -> str:
        """Makes `value` an attribute of the module, under `name` or a name like it."""
        attribute, tail = _identifier(name), 1
        while attribute in self.attributes:
            attribute, tail = f"{_identifier(name)}_{tail}", tail + 1
        self.attributes[attribute] = value
        return attribute

    def body(
        self,
        units: Iterable[Unit],
        inputs: Iterable[str],
        outputs: Iterable[tuple[str, torch.device]],
    ) -> fx.GraphModule:
        """A module for `units` alone: it takes the tensors `inputs` and returns `outputs`."""
        child = Compiler(self.graph, self.float64, self.device, self)
        for name in inputs:
            child._placeholder(name)
        child._add(units)
        child.fx.output(tuple(child.value(name, device) for name, device in outputs))
        return child._finish()

    def call_region(self, region: Region, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Calls `module`, which stands for `region`; its outputs become the region's."""
        target = self._attribute(region.name, module)
        node = self.fx.create_node("call_module", target, args, name=f"{target}_all")
        node.meta["layer"] = region.name
        self._items(node, region.outputs, region.name)

    def place(self, name: str) -> torch.device:
        """Where the value of tensor `name` is computed."""
        return _HOST if name in self.on_host else self.device

    def follow(self, name: str, source: str | None) -> None:
        """`name` is a size, axis or count if `source`, which it takes its values from, is one."""
        if source in self.on_host and "int" in self.graph.tensors[name].dtype:
            self.on_host.add(name)


def _item(values: tuple[Tensor, ...], i: int) -> Tensor:
    return values[i]


def is_kept(node: fx.Node) -> bool:
    """Whether `node` stays although nothing uses its value."""
    return node.op in ("placeholder", "output") or node.target is elementwise.require


def _identifier(name: str) -> str:
    """`name` as a Python identifier: ``layer1.0.conv1`` becomes ``layer1_0_conv1``."""
    return re.sub(r"\W+", "_", name).strip("_") or "tensor"
