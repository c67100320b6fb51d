"""Turns a read-back graph into a ``torch.fx.GraphModule`` with TensorRT's semantics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from trtnet.errors import UnsupportedError, UsageError
from trtnet.graph.types import Graph, Layer
from trtnet.reference import (
    convolution,
    elementwise,
    fill,
    index,
    linear,
    pooling,
    quantize,
    reduction,
    resize,
    shape,
)
from trtnet.reference.site import Call, Site, execution_dtype, is_shape_value, share
from trtnet.reference.types import EXACT, HOST_INPUTS, check

OPERATIONS = {
    **convolution.OPERATIONS,
    **elementwise.OPERATIONS,
    **fill.OPERATIONS,
    **index.OPERATIONS,
    **linear.OPERATIONS,
    **pooling.OPERATIONS,
    **quantize.OPERATIONS,
    **reduction.OPERATIONS,
    **resize.OPERATIONS,
    **shape.OPERATIONS,
}

_HALF = {"float16": "half", "bfloat16": "bfloat16"}
_HOST = torch.device("cpu")
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
        device: where it runs.
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
        return _Compiler(graph, float64, torch.device(device)).module(names)


class _Compiler:
    def __init__(self, graph: Graph, float64: bool, device: torch.device) -> None:
        self.graph, self.float64, self.device = graph, float64, device
        self.fx = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.constants: dict[str, Layer] = {}
        self.on_host: set[str] = set()
        self.buffers: dict[str, Tensor] = {}
        self.memo: dict[tuple[object, ...], fx.Node] = {}

    def module(self, outputs: Sequence[str]) -> fx.GraphModule:
        for name in self.graph.inputs:
            self.values[name] = self.fx.placeholder(_identifier(name))
            if self._is_shape_value(name):
                self.on_host.add(name)
        for layer in self.graph.layers:
            check(self.graph, layer)
            if layer.type == "CONSTANT":
                self._constant(layer)
            else:
                self._layer(layer)
        self.fx.output({name: self._value(name, self.device) for name in outputs})
        self.fx.eliminate_dead_code()
        module = fx.GraphModule(self.buffers, self.fx, "Reference")
        module.meta["source"] = self.graph.source  # owns the memory some buffers are views of
        return module.eval()

    def _constant(self, layer: Layer) -> None:
        """Becomes a buffer where it is used, of the type and on the device it is used in."""
        (name,) = layer.outputs
        self.constants[name] = layer
        if self._is_shape_value(name):
            self.on_host.add(name)

    def _layer(self, layer: Layer) -> None:
        if layer.type not in OPERATIONS:
            raise UnsupportedError(
                f"layers of type {layer.type} cannot be executed", module=layer.name
            )
        names = [name for name in layer.inputs if name is not None]
        if layer.type in ("SHAPE", "FILL") or all(name in self.on_host for name in names):
            self.on_host.update(layer.outputs)
        exact = layer.type in EXACT
        site = Site(
            layer,
            tuple(self._input(layer, i, exact) for i in range(len(layer.inputs))),
            {name: self._weights(layer, name) for name in layer.weights},
            self.graph.tensors,
            self.float64,
        )
        call = OPERATIONS[layer.type](site)
        self._outputs(layer, call, rounds=not exact)

    def _outputs(self, layer: Layer, call: Call, rounds: bool) -> None:
        first = layer.outputs[0]
        method = _HALF.get(self.graph.tensors[first].dtype) if rounds and not self.float64 else None
        if len(layer.outputs) > 1:
            node = self._call(call, f"{_identifier(layer.name)}_all", layer)
            for i, name in enumerate(layer.outputs):
                self.values[name] = self._call(Call(_item, (node, i)), _identifier(name), layer)
        elif method:
            node = self._call(call, f"{_identifier(first)}_unrounded", layer)
            self.values[first] = self._call(Call(method, (node,)), _identifier(first), layer)
        else:
            self.values[first] = self._call(call, _identifier(first), layer)

    def _call(self, call: Call, name: str, layer: Layer) -> fx.Node:
        op = "call_method" if isinstance(call.function, str) else "call_function"
        node = self.fx.create_node(op, call.function, call.args, call.kwargs, name)
        node.meta["layer"] = layer.name
        return node

    def _input(self, layer: Layer, position: int, exact: bool) -> fx.Node | None:
        name = layer.inputs[position]
        if name is None:
            return None
        if layer.type == "SHAPE":
            return self.values.get(name) or self._value(name, self.device)
        host = position in HOST_INPUTS.get(layer.type, ()) or layer.outputs[0] in self.on_host
        return self._value(name, _HOST if host else self.device, wide=not exact)

    def _value(self, name: str, device: torch.device, wide: bool = False) -> fx.Node:
        """The value of tensor `name` on `device`; `wide` turns half precision into float32."""
        dtype = self.graph.tensors[name].dtype
        wide = wide and not self.float64 and dtype in _HALF
        if name in self.constants:
            target = torch.float32 if wide else execution_dtype(dtype, self.float64, name)
            return self._buffer(name, self.constants[name].weights["weights"], target, device)
        node = self.values[name]
        if wide:
            node = self._once(node, "float", f"{node.name}_wide")
        if device != (_HOST if name in self.on_host else self.device):
            node = self._once(node, "to", f"{node.name}_{device.type}", device)
        return node

    def _once(self, node: fx.Node, method: str, name: str, *args: Any) -> fx.Node:
        key = (node, method, *args)
        if key not in self.memo:
            self.memo[key] = self.fx.create_node("call_method", method, (node, *args), name=name)
        return self.memo[key]

    def _weights(self, layer: Layer, name: str) -> fx.Node:
        dtype = torch.float64 if self.float64 else torch.float32
        return self._buffer(f"{layer.name}.{name}", layer.weights[name], dtype, self.device)

    def _buffer(
        self, name: str, array: np.ndarray, dtype: torch.dtype, device: torch.device
    ) -> fx.Node:
        key = (name, dtype, device)
        if key not in self.memo:
            attribute, tail = _identifier(name), 1
            while attribute in self.buffers:
                attribute, tail = f"{_identifier(name)}_{tail}", tail + 1
            self.buffers[attribute] = _tensor(array, dtype).to(device, dtype)
            self.memo[key] = self.fx.create_node("get_attr", attribute, name=attribute)
        return self.memo[key]

    def _is_shape_value(self, name: str) -> bool:
        """Whether a tensor nobody computes could be a size, axis or count."""
        info = self.graph.tensors[name]
        if name in self.constants:
            return self.constants[name].weights["weights"].size <= _HOST_CONSTANT
        return is_shape_value(info)


def _item(values: tuple[Tensor, ...], i: int) -> Tensor:
    return values[i]


def _tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """`array` as a tensor that shares its memory; bits become the type they stand for."""
    if array.dtype == np.uint16:
        return share(array).view(torch.bfloat16)
    if array.dtype == np.uint8 and dtype == torch.float8_e4m3fn:
        return share(array).view(dtype)
    return share(array)


def _identifier(name: str) -> str:
    """`name` as a Python identifier: ``layer1.0.conv1`` becomes ``layer1_0_conv1``."""
    return re.sub(r"\W+", "_", name).strip("_") or "tensor"
