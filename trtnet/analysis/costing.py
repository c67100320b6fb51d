"""Cost of a network: arithmetic, memory traffic, and the roofline bound that follows."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field

from trtnet.analysis.counting import known_shapes, layer_macs
from trtnet.analysis.precisions import product_type
from trtnet.dtypes import ELEMENT_TYPES
from trtnet.graph.edges import Edges
from trtnet.graph.gpu_table import Gpu, find_gpu
from trtnet.graph.kernels import PRODUCTS, Kernel, Step, data_inputs, group_into_kernels
from trtnet.graph.malformed import only_layers
from trtnet.graph.types import Graph, Layer, TensorShapes, parameters
from trtnet.layer_names import LayerName
from trtnet.precision.table import PRODUCT_RATES
from trtnet.records import Row

# What tables of GPUs call the speed of products of each type. Networks read back may hold FP4,
# which no precision of trtnet uses.
_RATES = {**PRODUCT_RATES, "float4_e2m1": "fp4"}
_READS_ONLY_ITS_OUTPUT = ("GATHER", "SLICE")  # these read the elements they return


@dataclass(frozen=True)
class PartCost:
    """What one layer adds to the cost of the kernel that it is fused into.

    Attributes:
        name: the layer's name.
        type: the layer's type.
        macs, parameters: its own.
        bytes_read, bytes_written: the traffic of the kernel less that of the kernel without this
            layer and those after it; negative where the layer saves traffic, as one does that
            gives smaller elements than it takes.
    """

    name: str
    type: str
    macs: int
    parameters: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class LayerCost:
    """Cost of one execution of one layer and of the layers fused into it.

    Attributes:
        name: the layer's name.
        type: the layer's type, such as ``"CONVOLUTION"``.
        fused: names of the layers fused into it, in order; see :mod:`trtnet.graph.kernels`.
        precision: the precision of its products (``"fp16"``); None for a layer without products.
        macs: multiply-accumulates.
        parameters: weight elements read, constants included.
        bytes_read: bytes of activations, weights and constants read from memory.
        bytes_written: bytes of activations written to memory.
        parts: what this layer and each of `fused` add; their sums are the figures above.
    """

    name: str
    type: str
    fused: tuple[str, ...]
    precision: str | None
    macs: int
    parameters: int
    bytes_read: int
    bytes_written: int
    parts: tuple[PartCost, ...] = field(repr=False)

    @property
    def intensity(self) -> float:
        """Operations (two per multiply-accumulate) per byte of memory traffic."""
        return intensity(self.macs, self.bytes_read + self.bytes_written)

    def row(self) -> Row:
        """The layer as a row, see :meth:`Cost.rows`."""
        return {
            "layer": self.name,
            **LayerName.read(self.name, self.type).row,
            "kernel": self.name,
            "type": self.type,
            "rate": self.precision,
            "fused": len(self.fused),
            "macs": self.macs,
            "parameters": self.parameters,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "intensity": self.intensity,
        }


@dataclass(frozen=True)
class LayerBound:
    """Lower bound of the time of one layer.

    Attributes:
        name: the layer's name.
        type: the layer's type.
        compute: seconds that its products take at the GPU's peak rate.
        memory: seconds that its memory traffic takes at the full bandwidth.
    """

    name: str
    type: str
    compute: float
    memory: float

    @property
    def seconds(self) -> float:
        """The larger of `compute` and `memory`."""
        return max(self.compute, self.memory)

    @property
    def limit(self) -> str:
        """``"compute"`` or ``"memory"``, whichever takes longer."""
        return "compute" if self.compute > self.memory else "memory"


@dataclass(frozen=True)
class Bound:
    """Lower bound of the time of a network on a GPU that runs one layer after the other.

    Attributes:
        gpu: the GPU.
        layers: one bound per :class:`LayerCost`, in order.
    """

    gpu: Gpu
    layers: tuple[LayerBound, ...]

    @property
    def seconds(self) -> float:
        """The sum over all layers."""
        return math.fsum(layer.seconds for layer in self.layers)

    def rows(self) -> list[Row]:
        """One row for each layer, with the names of docs/study.md: ``compute_s``, ``memory_s``,
        ``bound_s`` (the larger of the two), its share of the whole, and what limits it. They join
        the rows of the cost by ``layer``."""
        total = self.seconds
        return [
            {
                "layer": layer.name,
                **LayerName.read(layer.name, layer.type).row,
                "kernel": layer.name,
                "compute_s": layer.compute,
                "memory_s": layer.memory,
                "bound_s": layer.seconds,
                "bound_share": layer.seconds / total if total else 0.0,
                "limit": layer.limit,
            }
            for layer in self.layers
        ]


@dataclass(frozen=True)
class Cost:
    """Cost of one execution of a network.

    Attributes:
        layers: costs in execution order; layers fused into another layer, and those computed
            before the execution starts, have no entry.
        parameters: number of weight elements in the network, each counted once.
    """

    layers: tuple[LayerCost, ...]
    parameters: int

    def __str__(self) -> str:
        moved = (self.bytes_read + self.bytes_written) / 1e6
        large = self.macs >= 1e9
        macs = f"{self.macs / 1e9:.4g} GMAC" if large else f"{self.macs / 1e6:.4g} MMAC"
        return (f"{macs}, {self.parameters:,} weights, {moved:,.1f} MB moved, "
                f"{self.intensity:.1f} FLOP/byte")  # fmt: skip

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bytes_read(self) -> int:
        """Bytes that all layers read from memory."""
        return sum(layer.bytes_read for layer in self.layers)

    @property
    def bytes_written(self) -> int:
        """Bytes that all layers write to memory."""
        return sum(layer.bytes_written for layer in self.layers)

    @property
    def intensity(self) -> float:
        """Operations (two per multiply-accumulate) per byte of memory traffic."""
        return intensity(self.macs, self.bytes_read + self.bytes_written)

    def rows(self) -> list[Row]:
        """One row for each layer that is executed, with the names of docs/study.md."""
        return [layer.row() for layer in self.layers]

    def bound(self, gpu: Gpu | str, precision: str | None = None) -> Bound:
        """The roofline bound: the time of each layer is the longer of two, that of its products
        at the GPU's peak rate and that of its traffic at the full memory bandwidth.

        Not counted are arithmetic outside of products (activations, softmax) and kernel launches.
        Every tensor between two layers counts as memory traffic, although small ones may stay in
        the cache.

        Args:
            gpu: a :class:`Gpu`, or its key in the table: ``"h200"``, ``"h200-measured"``.
            precision: the precision of all products, such as ``"fp32"`` for networks built
                without TF32; None for each layer's own.

        Raises:
            UsageError: an unknown GPU, or one without a known rate for the precision.
        """
        found = find_gpu(gpu)
        return Bound(found, tuple(_bound(layer, found, precision) for layer in self.layers))


@only_layers()
def cost(graph: Graph, shapes: TensorShapes | None = None) -> Cost:
    """The cost of one execution of `graph`, layer by layer.

    A convolution, its bias, its activation and a residual added to it count as one layer, which
    reads its inputs once and writes its output once: see :mod:`trtnet.graph.kernels`.

    Args:
        graph: the network.
        shapes: the shape of each network input; needed where an input has dynamic axes.

    Raises:
        ShapeError: a dynamic network without `shapes`, or `shapes` that do not fit its inputs.
    """
    known = known_shapes(graph, shapes)
    counter = _Counter(graph, known, Edges(graph), _constants(graph))
    kernels = group_into_kernels(graph, known)
    return Cost(tuple(map(counter.layer, kernels)), parameters(graph))


@dataclass(frozen=True)
class _Counter:
    """Counts what kernels of one graph cost.

    Attributes:
        graph: the network.
        shapes: the concrete shape of every tensor.
        edges: of the graph.
        constants: the tensors that are computed from constants alone.
    """

    graph: Graph
    shapes: TensorShapes
    edges: Edges
    constants: Set[str]

    def layer(self, kernel: Kernel) -> LayerCost:
        """The cost of `kernel`, under the name of its main layer."""
        first, *fused = kernel.layers
        parts = tuple(map(self._part, kernel.steps()))
        macs = sum(part.macs for part in parts)
        return LayerCost(
            name=first.name,
            type=first.type,
            fused=tuple(layer.name for layer in fused),
            precision=_rate(first, self.graph, self.edges, macs),
            macs=macs,
            parameters=sum(part.parameters for part in parts),
            bytes_read=sum(part.bytes_read for part in parts),
            bytes_written=sum(part.bytes_written for part in parts),
            parts=parts,
        )

    def _part(self, step: Step) -> PartCost:
        layer, shapes = step.layer, self.shapes
        own = [*layer.weights.values()]
        constants = [name for name in step.reads if name in self.constants]
        return PartCost(
            layer.name,
            layer.type,
            layer_macs(layer, shapes),
            sum(array.size for array in own) + sum(math.prod(shapes[name]) for name in constants),
            _bytes_read(step, self.graph, shapes) + sum(array.nbytes for array in own),
            sum(_bytes(name, self.graph, shapes) for name in step.writes)
            - sum(_bytes(name, self.graph, shapes) for name in step.kept),
        )


def _constants(graph: Graph) -> set[str]:
    """The tensors that are computed from constants alone: the layers are in execution order."""
    found: set[str] = set()
    for layer in graph.layers:
        sources = data_inputs(layer)
        if layer.type == "CONSTANT" or (sources and found.issuperset(sources)):
            found.update(layer.outputs)
    return found


def _bytes_read(step: Step, graph: Graph, shapes: TensorShapes) -> int:
    sizes = [_bytes(name, graph, shapes) for name in step.reads]
    layer = step.layer
    if layer.type in _READS_ONLY_ITS_OUTPUT:
        given = _bytes(layer.outputs[0], graph, shapes)
        sizes[:1] = [min(size, given) for size in sizes[:1]]
    return sum(sizes)


def _bytes(name: str, graph: Graph, shapes: TensorShapes) -> int:
    return math.ceil(math.prod(shapes[name]) * ELEMENT_TYPES[graph.tensors[name].dtype].bits / 8)


def _rate(layer: Layer, graph: Graph, edges: Edges, macs: int) -> str | None:
    """The precision of the products of `layer`; None for a layer without products."""
    if layer.type not in PRODUCTS and not (layer.type == "PLUGIN_V3" and macs):
        return None
    made_in = product_type(layer, graph, edges)
    return _RATES.get(made_in, made_in)


def _bound(layer: LayerCost, gpu: Gpu, precision: str | None) -> LayerBound:
    compute = 0.0
    if layer.precision is not None:
        compute = 2 * layer.macs / gpu.flops_in(precision or layer.precision)
    memory = (layer.bytes_read + layer.bytes_written) / gpu.bandwidth
    return LayerBound(layer.name, layer.type, compute, memory)


def intensity(macs: int, traffic: int) -> float:
    """Operations (two per multiply-accumulate) per byte of memory traffic."""
    return 2 * macs / traffic if traffic else 0.0
