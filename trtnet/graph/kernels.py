"""Groups layers into kernels: which layers run as one, and which tensors go through memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trtnet.graph.types import Graph, Layer, TensorShapes

PRODUCTS = frozenset(
    {"ATTENTION_INPUT", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY"}
)
CONVERSIONS = frozenset({"CAST", "IDENTITY", "QUANTIZE"})
POINTWISE = frozenset({"ACTIVATION", "ELEMENTWISE", "PARAMETRIC_RELU", "SCALE", "SELECT", "UNARY"})
_RENAMES = frozenset({"ATTENTION_OUTPUT", "SQUEEZE", "UNSQUEEZE"})
_TAKES_EPILOGUE = PRODUCTS | POINTWISE | CONVERSIONS

# The number of leading inputs that are data; the others are sizes, axes and scales.
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
        layers: the main layer first, then those fused into it, in the order in which they joined.
        reads: names of the tensors read from memory, once each, constants included.
        writes: names of the tensors written to memory.
        sources: for each layer the tensors in memory, or made by the layers before, that it takes.
    """

    layers: tuple[Layer, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]

    def steps(self) -> Iterator[Step]:
        """What each layer adds to the traffic of the kernel of the layers before it."""
        last = {name: at for at, names in enumerate(self.sources) for name in names}
        written, made, read = {*self.writes}, set[str](), set[str]()
        for at, (layer, names) in enumerate(zip(self.layers, self.sources, strict=True)):
            taken = dict.fromkeys(names)
            outside = tuple(name for name in taken if name not in made and name not in read)
            kept = tuple(
                name for name in taken
                if name in made and last[name] == at and name not in written
            )  # fmt: skip
            leaving = tuple(
                name for name in layer.outputs if name in written or last.get(name, -1) > at
            )
            made.update(layer.outputs)
            read.update(outside)
            yield Step(layer, outside, leaving, kept)


class Step(NamedTuple):
    """What a layer adds to the traffic of a kernel that it joins.

    Attributes:
        layer: the layer.
        reads: tensors that it reads from memory and that the layers before do not.
        writes: tensors that it writes, if only for layers that join later.
        kept: tensors that the layers before would have to write without it.
    """

    layer: Layer
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    kept: tuple[str, ...]


def group_into_kernels(graph: Graph, shapes: TensorShapes) -> list[Kernel]:
    """The kernels of `graph`, in execution order.

    - A pointwise layer joins the kernel of a convolution, a matrix product or another pointwise
      layer that produces one of its inputs. Of several it joins the last to run, whose output
      must have as many elements as its own; the other operands (a bias, a residual) are read.
    - A cast or a quantize joins the producer of its input.
    - Layers that only rename memory cost nothing: squeeze, unsqueeze, a shuffle that moves no
      element. A dequantize, or a cast of a network input, is part of each reader, which reads the
      original tensor.
    - Constants, sizes, and values computed from these alone are ready before the first kernel.
    - Any other layer is a kernel of its own; a whole attention is one kernel.

    A tensor that leaves its kernel is written once and read once by each other kernel; all others
    stay out of memory. TensorRT may fuse less (a value needed inside and outside) or more (an
    attention made of single products, a concatenation). The body of a loop and both branches of a
    conditional count once.

    Args:
        graph: the network.
        shapes: the concrete shape of every tensor.
    """
    grouping = _Grouping(graph, shapes)
    for layer in graph.layers:
        grouping.place(layer)
    return grouping.kernels()


def data_inputs(layer: Layer) -> list[str]:
    """Names of the tensors whose elements `layer` reads, without sizes, axes and scales."""
    return [name for name in layer.inputs[: _DATA_INPUTS.get(layer.type)] if name is not None]


class _Grouping:
    """Assigns each layer, in execution order, to a new or an existing kernel."""

    def __init__(self, graph: Graph, shapes: TensorShapes) -> None:
        self.shapes = shapes
        self.outputs = graph.outputs
        self.members: list[list[Layer]] = []
        self.kernel_of: dict[str, int] = {}  # stored tensor → position in members
        self.stored: dict[str, str] = {}  # alias → the stored tensor that is read for it
        self.ready: set[str] = set()  # tensors known before the first kernel runs

    def place(self, layer: Layer) -> None:
        """Adds `layer`, unless it is an alias or computed before the first kernel."""
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
        """The kernels of all layers placed so far."""
        reads = [self._reads(position) for position in range(len(self.members))]
        leaving = {self._stored(name) for name in self.outputs}.union(*reads)
        return [
            Kernel(
                tuple(layers),
                taken,
                tuple(name for layer in layers for name in layer.outputs if name in leaving),
                tuple(map(self._sources, layers)),
            )
            for layers, taken in zip(self.members, reads, strict=True)
        ]

    def _reads(self, position: int) -> tuple[str, ...]:
        sources = dict.fromkeys(
            name for layer in self.members[position] for name in self._sources(layer)
        )
        return tuple(name for name in sources if self.kernel_of.get(name) != position)

    def _sources(self, layer: Layer) -> tuple[str, ...]:
        return tuple(map(self._stored, data_inputs(layer)))

    def _stored(self, name: str) -> str:
        return self.stored.get(name, name)

    def _is_alias(self, layer: Layer, sources: Sequence[str]) -> bool:
        """Whether readers of `layer` read the memory of its input."""
        if layer.type in _RENAMES:
            return True
        if layer.type == "SHUFFLE":
            return _moves_nothing(layer, self.shapes)
        if layer.outputs and layer.outputs[0] in self.outputs:
            return False  # a converted network output must be written
        if layer.type in CONVERSIONS:
            return sources[0] not in self.kernel_of and sources[0] not in self.ready
        return layer.type == "DEQUANTIZE"

    def _home(self, layer: Layer, sources: Sequence[str]) -> int | None:
        """The position of the kernel that `layer` joins; None where it starts one of its own.

        It is the last kernel that `layer` depends on, so that data flows from one kernel to a
        later one only.
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


def _moves_nothing(layer: Layer, shapes: TensorShapes) -> bool:
    before, after = shapes[layer.inputs[0] or ""], shapes[layer.outputs[0]]
    first = layer.attributes["first_transpose"][: len(before)]
    second = layer.attributes["second_transpose"][: len(after)]
    return _ascend(axis for axis in first if before[axis] != 1) and _ascend(
        axis for axis, n in zip(second, after, strict=True) if n != 1
    )


def _ascend(axes: Iterable[int]) -> bool:
    order = list(axes)
    return order == sorted(order)
