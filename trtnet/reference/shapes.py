"""Concrete shapes of tensors, without computing any value but sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from trtnet.graph.types import Graph
from trtnet.reference.compiler import compile
from trtnet.reference.control import Loop
from trtnet.reference.detection import LARGEST
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.layer_context import is_shape_value
from trtnet.reference.regions import group_regions
from trtnet.reference.runner import execute

Shape = tuple[int, ...]


class ShapeInference:
    """Finds the shapes of tensors by running a graph on PyTorch's ``meta`` device.

    Values exist as shapes only, but for sizes, axes and counts, which are computed on the CPU.
    """

    def __init__(
        self, graph: Graph, outputs: Sequence[str] | None = None, largest: bool = False
    ) -> None:
        """Compiles `graph`.

        Args:
            graph: of any layers.
            outputs: the tensors whose shapes are wanted, the network's outputs if None.
            largest: whether a size that depends on values is the largest that it can be.
        """
        self._inputs = [graph.tensors[name] for name in graph.inputs]
        self._module = compile(graph, device="meta", outputs=outputs)
        if largest:
            _take_largest(self._module)

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

    def note_bodies(self) -> dict[str, Shape]:
        """A dictionary that the next inference fills with the shapes of the tensors inside of
        loops and conditionals: in a loop those of its first iteration."""
        found: dict[str, Shape] = {}

        def note(body: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            assert isinstance(body, fx.GraphModule)
            tensors: dict[str, str] = body.meta["tensors"]
            if tensors.keys() <= found.keys():
                return
            values = fx.Interpreter(body, garbage_collect_values=False)
            values.run(*arguments)
            shapes = {node.name: tuple(value.shape) for node, value in values.env.items()
                      if isinstance(value, Tensor)}  # fmt: skip
            found.update({name: shapes.get(node, ()) for name, node in tensors.items()})

        for module in self._module.modules():
            if "tensors" in getattr(module, "meta", {}):
                module.register_forward_pre_hook(note)
        return found


def infer(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every tensor of `graph` when its inputs have `shapes`.

    A size that depends on values is the largest that it can be. Tensors inside of a loop have the
    shapes of its first iteration; those of a loop or branch that does not run are left out. An
    input that is itself a size, axis or count is taken as ones.

    Raises:
        NetworkError: as :meth:`ShapeInference.__call__`.
    """
    names = [*graph.inputs, *(name for step in group_regions(graph) for name in step.outputs)]
    inference = ShapeInference(graph, names, largest=True)
    inside = inference.note_bodies()
    around = inference(shapes)
    return {**inside, **around}


def _take_largest(module: fx.GraphModule) -> None:
    """Has `module`, and the bodies of its regions, make the most rows that there can be, and ask
    no value whether a loop goes on."""
    for loop in module.modules():
        if isinstance(loop, Loop):
            loop.runs_once = True
    for part in [part for part in module.modules() if isinstance(part, fx.GraphModule)]:
        for node in part.graph.nodes:
            if node.op == "call_function" and node.target in LARGEST:
                node.target = LARGEST[node.target]
        part.recompile()


def _host_value(shape: Shape, dtype: torch.dtype, values: Sequence[int] | None) -> Tensor:
    if values is None:
        return torch.ones(shape, dtype=dtype)
    return torch.tensor(values, dtype=dtype).view(shape)
