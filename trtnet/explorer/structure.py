"""Layers and tensors of a network, as columns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trtnet.dtypes import ELEMENT_TYPES
from trtnet.explorer.columns import Columns, repeated
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.graph import Graph
from trtnet.graph.types import TensorShapes


def layer_columns(graph: Graph, tree: ModuleTree, kernels: Mapping[str, int]) -> Columns:
    """The layers of `graph`, in execution order.

    Args:
        graph: the network.
        tree: of its modules.
        kernels: number of the kernel that each layer is part of, by its name.
    """
    tensors = {name: row for row, name in enumerate(graph.tensors)}
    attributes = repeated(json.dumps(dict(layer.attributes)) for layer in graph.layers)
    return {
        "name": [layer.name for layer in graph.layers],
        "op": [layer.name.rpartition("/")[2] for layer in graph.layers],
        "type": repeated(layer.type for layer in graph.layers),
        "module": [tree.row(module_of(layer.name)) for layer in graph.layers],
        "inputs": [_rows(layer.inputs, tensors) for layer in graph.layers],
        "outputs": [_rows(layer.outputs, tensors) for layer in graph.layers],
        "kernel": [kernels.get(layer.name, -1) for layer in graph.layers],
        "weights": [sum(array.size for array in layer.weights.values()) for layer in graph.layers],
        "attributes": {**attributes, "values": [_plain(text) for text in attributes["values"]]},
    }


def tensor_columns(graph: Graph, shapes: TensorShapes) -> Columns:
    """The tensors of `graph`, of the concrete `shapes`."""
    producers = {name: row for row, layer in enumerate(graph.layers) for name in layer.outputs}
    constants = {
        name for layer in graph.layers if layer.type == "CONSTANT" for name in layer.outputs
    }
    roles = {
        **dict.fromkeys(constants, "constant"),
        **dict.fromkeys(graph.inputs, "input"),
        **dict.fromkeys(graph.outputs, "output"),
    }
    return {
        "name": list(graph.tensors),
        "dtype": repeated(info.dtype for info in graph.tensors.values()),
        "shape": [list(shapes[name]) for name in graph.tensors],
        "bytes": [tensor_bytes(graph, shapes, name) for name in graph.tensors],
        "producer": [producers.get(name, -1) for name in graph.tensors],
        "role": repeated(roles.get(name, "") for name in graph.tensors),
    }


def tensor_bytes(graph: Graph, shapes: TensorShapes, name: str) -> int:
    """The bytes of the tensor `name` in memory."""
    return math.ceil(math.prod(shapes[name]) * ELEMENT_TYPES[graph.tensors[name].dtype].bits / 8)


def _rows(names: Sequence[str | None], tensors: Mapping[str, int]) -> list[int]:
    return [-1 if name is None else tensors[name] for name in names]


def _plain(text: str) -> dict[str, Any]:
    """Attributes that JSON has: what is not finite is a text."""
    found: dict[str, Any] = json.loads(text, parse_constant=str)
    return found
