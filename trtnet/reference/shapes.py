"""Concrete shapes of every tensor, without computing any value but sizes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trtnet.graph.types import Graph
from trtnet.reference.compiler import compile
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.regions import nest
from trtnet.reference.runner import execute
from trtnet.reference.site import is_shape_value


def infer(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of `graph` when its inputs have `shapes`.

    Tensors inside of a loop or conditional are left out: they have many shapes, or none.

    Floating values exist on PyTorch's ``meta`` device only. An input that is itself a size, axis
    or count is taken as ones.
    """
    arguments = []
    for name in graph.inputs:
        info = graph.tensors[name]
        place = "cpu" if is_shape_value(info) else "meta"
        dtype = execution_dtype(info.dtype, False, name)
        arguments.append(torch.ones(shapes[name], dtype=dtype, device=place))
    every = [*graph.inputs, *(name for unit in nest(graph) for name in unit.outputs)]
    values = execute(compile(graph, device="meta", outputs=every), arguments)
    return {name: tuple(value.shape) for name, value in values.items()}
