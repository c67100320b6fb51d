"""Which layers run as one kernel, and which tensors then go through memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtnet.graph.counting import Shapes
from trtnet.graph.types import Graph, Layer

PRODUCTS = frozenset(
    {"ATTENTION_INPUT", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY"}
)
CONVERSIONS = frozenset({"CAST", "IDENTITY", "QUANTIZE"})
POINTWISE = frozenset({"ACTIVATION", "ELEMENTWISE", "PARAMETRIC_RELU", "SCALE", "SELECT", "UNARY"})
_RENAMES = frozenset({"ATTENTION_OUTPUT", "SQUEEZE", "UNSQUEEZE"})
_TAKES_EPILOGUE = PRODUCTS | POINTWISE | CONVERSIONS

# How many of the first inputs are data; the others are sizes, axes and scales.
_DATA_INPUTS = {
    "CUMULATIVE": 1,
    "DEQUANTIZE": 1,
    "FILL": 0,
    "QUANTIZE": 1,
    "RESIZE": 1,
    "SHUFFLE": 1,
    "SLICE": 1,
    "SQUEEZE": 1,
    "TOPK": 1,
    "UNSQUEEZE": 1,
}


@dataclass(frozen=True)
class Kernel:
    """Layers that share one pass over memory.

    Attributes:
        layers: the one that the others are fused into comes first.
        reads: names of the tensors taken from memory, once each, constants included.
        writes: names of the tensors put into memory.
    """

    layers: tuple[Layer, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def fuse(graph: Graph, shapes: Shapes) -> list[Kernel]:
    """The kernels of `graph`, in an order in which they can run.

    - A pointwise layer joins a convolution, a matrix product or another pointwise layer that
      makes one of its inputs. Among several it joins the last to run, whose output must have as
      many elements as its own; the other operands (a bias, a residual) are read.
    - A cast or a quantize joins whatever makes its input.
    - What only renames memory costs nothing: squeeze, unsqueeze, a shuffle that moves no element.
      A dequantize, and a cast of a network input, is done by each reader: it reads the original.
    - Constants, sizes, and what is computed from these alone are ready before the first kernel.
    - Any other layer is a kernel of its own; an attention is one, with all that is inside.

    A tensor that leaves its kernel is written once and read once by each other kernel; all others
    never reach memory. TensorRT may fuse less (a value needed inside and outside) or more (an
    attention made of single products, a concatenation). The body of a loop and both branches of a
    conditional are taken once.

    Args:
        shapes: a known size for each axis of each tensor.
    """
    fusion = _Fusion(graph, shapes)
    for layer in graph.layers:
        fusion.place(layer)
    return fusion.kernels()


def data_inputs(layer: Layer) -> list[str]:
    """Names of the tensors whose elements `layer` reads, without sizes, axes and scales."""
    return [name for name in layer.inputs[: _DATA_INPUTS.get(layer.type)] if name is not None]


class _Fusion:
    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self.shapes = shapes
        self.outputs = graph.outputs
        self.members: list[list[Layer]] = []
        self.kernel_of: dict[str, int] = {}  # stored tensor → position in members
        self.stored: dict[str, str] = {}  # tensor → the tensor whose memory it is read from
        self.ready: set[str] = set()  # tensors known before the first kernel runs

    def place(self, layer: Layer) -> None:
        sources = [self._stored(name) for name in data_inputs(layer)]
        if self._is_alias(layer, sources):
            self.stored[layer.outputs[0]] = sources[0]
        elif layer.type in ("CONSTANT", "SHAPE") or (sources and self.ready.issuperset(sources)):
            self.ready.update(layer.outputs)
        else:
            position = self._home(layer, sources)
            if position is None:
                position = len(self.members)
                self.members.append([])
            self.members[position].append(layer)
            self.kernel_of.update((name, position) for name in layer.outputs)

    def kernels(self) -> list[Kernel]:
        reads = [self._reads(position) for position in range(len(self.members))]
        leaving = {self._stored(name) for name in self.outputs}.union(*reads)
        return [
            Kernel(
                tuple(layers),
                taken,
                tuple(name for layer in layers for name in layer.outputs if name in leaving),
            )
            for layers, taken in zip(self.members, reads, strict=True)
        ]

    def _reads(self, position: int) -> tuple[str, ...]:
        names = (name for layer in self.members[position] for name in data_inputs(layer))
        sources = dict.fromkeys(map(self._stored, names))
        return tuple(name for name in sources if self.kernel_of.get(name) != position)

    def _stored(self, name: str) -> str:
        return self.stored.get(name, name)

    def _is_alias(self, layer: Layer, sources: Sequence[str]) -> bool:
        """Whether readers of `layer` read the memory of its input."""
        if layer.type in _RENAMES:
            return True
        if layer.type == "SHUFFLE":
            return _moves_nothing(layer, self.shapes)
        if layer.outputs and layer.outputs[0] in self.outputs:
            return False  # converted, it has to be written
        if layer.type in CONVERSIONS:
            return sources[0] not in self.kernel_of and sources[0] not in self.ready
        return layer.type == "DEQUANTIZE"

    def _home(self, layer: Layer, sources: Sequence[str]) -> int | None:
        """The kernel `layer` joins.

        Always the last of those it depends on: so data only flows from one kernel to a later one.
        """
        made = [name for name in sources if name in self.kernel_of]
        if not made or layer.type not in POINTWISE | CONVERSIONS | {"DEQUANTIZE"}:
            return None
        last = max(self.kernel_of[name] for name in made)
        if layer.type not in POINTWISE:
            return last
        size = math.prod(self.shapes[layer.outputs[0]])
        fits = any(
            math.prod(self.shapes[name]) == size for name in made if self.kernel_of[name] == last
        )
        return last if fits and self.members[last][0].type in _TAKES_EPILOGUE else None


def _moves_nothing(layer: Layer, shapes: Shapes) -> bool:
    before, after = shapes[layer.inputs[0] or ""], shapes[layer.outputs[0]]
    first = layer.attributes["first_transpose"][: len(before)]
    second = layer.attributes["second_transpose"][: len(after)]
    return _ascend(axis for axis in first if before[axis] != 1) and _ascend(
        axis for axis, n in zip(second, after, strict=True) if n != 1
    )


def _ascend(axes: Iterable[int]) -> bool:
    order = list(axes)
    return order == sorted(order)
