"""What a network costs: arithmetic, memory traffic, and the time neither can go below."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trtnet.dtypes import ELEMENT_TYPES
from trtnet.graph.counting import Shapes, known_shapes, layer_macs
from trtnet.graph.fusion import PRODUCTS, Kernel, data_inputs, fuse
from trtnet.graph.gpus import Gpu, find_gpu
from trtnet.graph.links import Links
from trtnet.graph.types import Graph, Layer, parameters
from trtnet.precision.table import PRODUCT_RATES

# What tables of GPUs call the speed of products of each type. Networks read back may hold FP4,
# which no precision of trtnet uses.
_RATES = {**PRODUCT_RATES, "float4_e2m1": "fp4"}
_READS_WHAT_IT_GIVES = ("GATHER", "SLICE")


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs, with the layers fused into it.

    Attributes:
        name: of the layer.
        type: of the layer, such as ``"CONVOLUTION"``.
        fused: names of the layers fused into it, in order; see :func:`trtnet.graph.fusion.fuse`.
        precision: what its products are computed in (``"fp16"``); None where it has none.
        macs: multiply-accumulates.
        parameters: weight elements read, constants included.
        bytes_read: activations, weights and constants taken from memory.
        bytes_written: activations put into memory.
    """

    name: str
    type: str
    fused: tuple[str, ...]
    precision: str | None
    macs: int
    parameters: int
    bytes_read: int
    bytes_written: int

    @property
    def intensity(self) -> float:
        """Operations (two per multiply-accumulate) per byte of memory traffic."""
        return _intensity(self.macs, self.bytes_read + self.bytes_written)


@dataclass(frozen=True)
class LayerBound:
    """The shortest time one layer can take, in seconds, by its arithmetic and by its traffic."""

    name: str
    compute: float
    memory: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.memory)

    @property
    def limit(self) -> str:
        """``"compute"`` or ``"memory"``, whichever takes longer."""
        return "compute" if self.compute > self.memory else "memory"


@dataclass(frozen=True)
class Bound:
    """The shortest time a network can take on a GPU, one layer after the other.

    Attributes:
        gpu: whose ceilings it follows from.
        layers: in order, one per :class:`LayerCost`.
    """

    gpu: Gpu
    layers: tuple[LayerBound, ...]

    @property
    def seconds(self) -> float:
        return math.fsum(layer.seconds for layer in self.layers)


@dataclass(frozen=True)
class Cost:
    """What one execution of a network costs.

    Attributes:
        layers: in execution order, without those fused into another or done before it starts.
        parameters: weight elements in the network, each once.
    """

    layers: tuple[LayerCost, ...]
    parameters: int

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def bytes_read(self) -> int:
        return sum(layer.bytes_read for layer in self.layers)

    @property
    def bytes_written(self) -> int:
        return sum(layer.bytes_written for layer in self.layers)

    @property
    def intensity(self) -> float:
        """Operations (two per multiply-accumulate) per byte of memory traffic."""
        return _intensity(self.macs, self.bytes_read + self.bytes_written)

    def bound(self, gpu: Gpu | str, precision: str | None = None) -> Bound:
        """The roofline of this network: each layer takes as long as the slower of its products,
        at the GPU's peak, and its traffic, at the memory's full bandwidth.

        Arithmetic outside of products (activations, softmax) is not counted, nor is any launch;
        every tensor between two layers goes through memory, although a small one stays in cache.

        Args:
            gpu: a :class:`Gpu`, or its key in the table: ``"h200"``, ``"h200-measured"``.
            precision: in which all products run, such as ``"fp32"`` for networks built without
                TF32; if None each layer's own.

        Raises:
            UsageError: an unknown GPU, or one without a ceiling for the precision.
        """
        found = find_gpu(gpu) if isinstance(gpu, str) else gpu
        return Bound(found, tuple(_bound(layer, found, precision) for layer in self.layers))


def cost(graph: Graph, shapes: Shapes | None = None) -> Cost:
    """What one execution of `graph` costs, layer by layer.

    A convolution, its bias, its activation and a residual added to it are one layer here, which
    reads its inputs once and writes its output once: see :func:`trtnet.graph.fusion.fuse`.

    Args:
        graph: the network.
        shapes: the shape of each network input; needed where an input has dynamic axes.

    Raises:
        ShapeError: a dynamic network without `shapes`, or `shapes` that are not the network's.
    """
    known, links = known_shapes(graph, shapes), Links(graph)
    rows = tuple(_layer_cost(kernel, graph, known, links) for kernel in fuse(graph, known))
    return Cost(rows, parameters(graph))


def _layer_cost(kernel: Kernel, graph: Graph, shapes: Shapes, links: Links) -> LayerCost:
    first, *fused = kernel.layers
    own = [array for layer in kernel.layers for array in layer.weights.values()]
    constants = [name for name in kernel.reads if _is_constant(name, links)]
    macs = sum(layer_macs(layer, shapes) for layer in kernel.layers)
    return LayerCost(
        name=first.name,
        type=first.type,
        fused=tuple(layer.name for layer in fused),
        precision=_precision(first, graph, links, macs),
        macs=macs,
        parameters=sum(array.size for array in own)
        + sum(math.prod(shapes[name]) for name in constants),
        bytes_read=_bytes_read(kernel, graph, shapes) + sum(array.nbytes for array in own),
        bytes_written=sum(_bytes(name, graph, shapes) for name in kernel.writes),
    )


def _is_constant(name: str, links: Links) -> bool:
    """Whether `name` was computed from constants alone."""
    maker = links.maker.get(name)
    if maker is None or maker.type == "CONSTANT":
        return maker is not None
    sources = data_inputs(maker)
    return bool(sources) and all(_is_constant(source, links) for source in sources)


def _bytes_read(kernel: Kernel, graph: Graph, shapes: Shapes) -> int:
    sizes = [_bytes(name, graph, shapes) for name in kernel.reads]
    first = kernel.layers[0]
    if first.type in _READS_WHAT_IT_GIVES:
        sizes[0] = min(sizes[0], _bytes(first.outputs[0], graph, shapes))
    return sum(sizes)


def _bytes(name: str, graph: Graph, shapes: Shapes) -> int:
    return math.ceil(math.prod(shapes[name]) * ELEMENT_TYPES[graph.tensors[name].dtype].bits / 8)


def _precision(layer: Layer, graph: Graph, links: Links, macs: int) -> str | None:
    """What the products of `layer` run in, if it has any: quantized only if all operands are."""
    if layer.type not in PRODUCTS and not (layer.type == "PLUGIN_V3" and macs):
        return None
    operands = layer.inputs[: 1 if "kernel" in layer.weights else 2]
    makers = [links.maker.get(name or "") for name in operands]
    sources = {
        graph.tensors[maker.inputs[0] or ""].dtype if maker and maker.type == "DEQUANTIZE" else ""
        for maker in makers
    }
    own = graph.tensors[layer.inputs[0] or ""].dtype
    only = sources.pop() if len(sources) == 1 and "kernel" not in layer.weights else ""
    return _RATES.get(only or own, only or own)


def _bound(layer: LayerCost, gpu: Gpu, precision: str | None) -> LayerBound:
    compute = 0.0
    if layer.precision is not None:
        compute = 2 * layer.macs / gpu.flops_in(precision or layer.precision)
    return LayerBound(layer.name, compute, (layer.bytes_read + layer.bytes_written) / gpu.bandwidth)


def _intensity(macs: int, traffic: int) -> float:
    return 2 * macs / traffic if traffic else 0.0
