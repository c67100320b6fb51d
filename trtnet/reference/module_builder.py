"""Collects the nodes of a ``torch.fx`` graph, and the buffers and modules they refer to.

Nodes carry what is known of them in ``node.meta``: ``"layer"`` is the name of the layer they
compute, ``"half"`` is true where a function computes in half precision by itself (see
:mod:`trtnet.reference.half_precision`).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from trtnet.reference import elementwise
from trtnet.reference.dtypes import decode
from trtnet.reference.integer import scale_at_the_end
from trtnet.reference.layer_context import TorchCall


class ModuleBuilder:
    """One ``fx.GraphModule`` under construction.

    Attributes:
        graph: the nodes so far.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self._attributes: dict[str, Any] = {}  # of the module: buffers, and bodies of regions
        self._made: dict[tuple[object, ...], fx.Node] = {}

    def placeholder(self, tensor: str) -> fx.Node:
        """The next argument of the module, which is the value of `tensor`."""
        node = self.graph.placeholder(identifier(tensor))
        node.target = node.name  # which fx makes unique; it writes the target into the code
        return node

    def call(self, call: TorchCall, name: str, owner: str) -> fx.Node:
        """A node `name` that makes `call` for the layer `owner`."""
        op = "call_method" if isinstance(call.function, str) else "call_function"
        node = self.graph.create_node(op, call.function, call.args, call.kwargs, name)
        node.meta["layer"] = owner
        return node

    def call_module(self, module: nn.Module, args: tuple[Any, ...], owner: str) -> fx.Node:
        """A node that calls `module`, which becomes a submodule, for the region `owner`."""
        target = self._attribute(owner, module)
        node = self.graph.create_node("call_module", target, args, name=f"{target}_all")
        node.meta["layer"] = owner
        return node

    def items(self, node: fx.Node, tensors: Iterable[str], owner: str) -> dict[str, fx.Node]:
        """The elements of the tuple `node`, which are the values of `tensors`, by tensor name."""
        return {
            name: self.call(TorchCall(operator.getitem, (node, i)), identifier(name), owner)
            for i, name in enumerate(tensors)
        }

    def convert(self, node: fx.Node, method: str, name: str, *args: Any) -> fx.Node:
        """A node `name` for ``node.method(*args)``, the same for equal arguments."""
        key = (node, method, *args)
        if key not in self._made:
            self._made[key] = self.graph.create_node("call_method", method, (node, *args), {}, name)
        return self._made[key]

    def buffer(
        self, name: str, array: np.ndarray, dtype: str, target: torch.dtype, device: torch.device
    ) -> fx.Node:
        """The node of a buffer of type `target` with the values of `array`, of element type
        `dtype`; the same for equal names, types and devices."""
        key = (name, target, device)
        if key not in self._made:
            attribute = self._attribute(name, decode(array, dtype).to(device, target))
            self._made[key] = self.graph.create_node("get_attr", attribute, name=attribute)
        return self._made[key]

    def finish(self, outputs: Any, *, float64: bool) -> fx.GraphModule:
        """The module, which returns the nodes `outputs`; nodes that nothing uses are dropped."""
        self.graph.output(outputs)
        scale_at_the_end(self.graph, self._attributes, float64)
        self.graph.eliminate_dead_code(is_kept)
        return fx.GraphModule(self._attributes, self.graph, "Reference").eval()

    def _attribute(self, name: str, value: Any) -> str:
        """Makes `value` an attribute of the module; returns its name, which is similar to
        `name`."""
        attribute, tail = identifier(name), 1
        while attribute in self._attributes:
            attribute, tail = f"{identifier(name)}_{tail}", tail + 1
        self._attributes[attribute] = value
        return attribute


def is_kept(node: fx.Node) -> bool:
    """Whether `node` stays in the graph even if nothing uses its value."""
    return node.op in ("placeholder", "output") or node.target is elementwise.require


def identifier(name: str) -> str:
    """`name` as a Python identifier: ``layer1.0.conv1`` becomes ``layer1_0_conv1``."""
    return re.sub(r"\W+", "_", name).strip("_") or "tensor"
