"""Concrete shapes of tensors, without computing any value but sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trtnet.graph.types import Graph
from trtnet.reference.compiler import compile
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.layer_context import is_shape_value
from trtnet.reference.regions import group_regions
from trtnet.reference.runner import execute

Shape = tuple[int, ...]


class ShapeInference:
    """Finds the shapes of tensors by running a graph on PyTorch's ``meta`` device.

    Values exist as shapes only, but for sizes, axes and counts, which are computed on the CPU.
    """

    def __init__(self, graph: Graph, outputs: Sequence[str] | None = None) -> None:
        """Compiles `graph`; `outputs` are the tensors whose shapes are wanted, the network's
        outputs if None."""
        self._inputs = [graph.tensors[name] for name in graph.inputs]
        self._module = compile(graph, device="meta", outputs=outputs)

    def __call__(
        self, shapes: Mapping[str, Shape], values: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, Shape]:
        """The shape of every wanted tensor, by name.

        Args:
            shapes: of every network input.
            values: of inputs that are sizes, axes or counts, flat; ones where there are none.

        Raises:
            NetworkError: a shape depends on values that are not computed, or a layer fails.
        """
        arguments = []
        for info in self._inputs:
            dtype, shape = execution_dtype(info.dtype), shapes[info.name]
            if not is_shape_value(info):
                arguments.append(torch.empty(shape, dtype=dtype, device="meta"))
            else:
                arguments.append(_host_value(shape, dtype, (values or {}).get(info.name)))
        return {n: tuple(value.shape) for n, value in execute(self._module, arguments).items()}


def infer(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every tensor of `graph` when its inputs have `shapes`.

    Tensors inside of a loop or conditional are left out: they have many shapes, or none. An input
    that is itself a size, axis or count is taken as ones.

    Raises:
        NetworkError: as :meth:`ShapeInference.__call__`.
    """
    names = [*graph.inputs, *(name for step in group_regions(graph) for name in step.outputs)]
    return ShapeInference(graph, names)(shapes)


def _host_value(shape: Shape, dtype: torch.dtype, values: Sequence[int] | None) -> Tensor:
    if values is None:
        return torch.ones(shape, dtype=dtype)
    return torch.tensor(values, dtype=dtype).view(shape)
