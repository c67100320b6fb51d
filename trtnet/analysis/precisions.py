"""What each layer of a network computes in, as far as the types of its tensors tell."""

from __future__ import annotations

from collections.abc import Iterator

from trtnet.dtypes import ELEMENT_TYPES
from trtnet.graph.edges import Edges
from trtnet.graph.kernels import PRODUCTS
from trtnet.graph.types import Graph, Layer
from trtnet.precision.table import QUANTIZED, STORED, TABLE


def product_type(layer: Layer, graph: Graph, edges: Edges) -> str:
    """The element type that the products of `layer` are made in.

    It is a quantized one only where all operands are dequantized from the same type.
    """
    own = graph.tensors[layer.inputs[0] or ""].dtype
    sources = {*_sources(layer, graph, edges)}
    only = sources.pop() if len(sources) == 1 and "kernel" not in layer.weights else ""
    return only or own


def computed_precisions(graph: Graph) -> dict[str, str | None]:
    """One of :data:`trtnet.precision.PRECISIONS` for each layer, by its name; ``None`` for a layer
    of integers or booleans. Of float32 it is ``fp32``: types do not tell whether TF32 is allowed.
    """
    edges = Edges(graph)
    return {layer.name: _precision(layer, graph, edges) for layer in graph.layers}


def _precision(layer: Layer, graph: Graph, edges: Edges) -> str | None:
    if layer.type in PRODUCTS:
        made_in, *others = product_type(layer, graph, edges), *_sources(layer, graph, edges)
        stored = [other for other in others if other]
        return _STORED.get(stored[0]) if stored and made_in not in stored else _name(made_in)
    return _name(graph.tensors[layer.outputs[0]].dtype) if layer.outputs else None


def _sources(layer: Layer, graph: Graph, edges: Edges) -> Iterator[str]:
    """The type that each operand of a product is dequantized from; ``""`` for others."""
    for name in layer.inputs[: 1 if "kernel" in layer.weights else 2]:
        maker = edges.producers.get(name or "")
        quantized = maker is not None and maker.type == "DEQUANTIZE"
        yield graph.tensors[maker.inputs[0] or ""].dtype if maker and quantized else ""


def _name(dtype: str) -> str | None:
    known = ELEMENT_TYPES[dtype].kind == "float" or dtype in _QUANTIZED
    return _FLOATS.get(dtype) or _QUANTIZED.get(dtype) or (dtype if known else None)


_FLOATS = {p.dtype.value: p.name for p in reversed([*TABLE.values()]) if p.dtype is not None}
_QUANTIZED = {stored.value: name for name, (stored, _) in STORED.items() if name in QUANTIZED}
_STORED = {stored.value: name for name, (stored, _) in STORED.items() if name not in QUANTIZED}
