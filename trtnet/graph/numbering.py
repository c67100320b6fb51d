"""Which tensors of a graph are equal, because equal layers compute them from equal tensors."""

from __future__ import annotations

import itertools
from typing import Any

from trtnet.graph.types import Graph, Layer

# Layers whose result depends on nothing but their inputs, attributes and weights.
_PURE = frozenset(
    {
        *("CAST", "CONCATENATION", "CONSTANT", "ELEMENTWISE", "GATHER", "IDENTITY", "SELECT"),
        *("SHAPE", "SHUFFLE", "SLICE", "SQUEEZE", "UNARY", "UNSQUEEZE"),
    }
)
_LARGEST = 1024  # bytes of weights that are compared


def value_numbers(graph: Graph) -> dict[str, int]:
    """A number for each tensor of `graph`; tensors of one number have one value.

    Tensors of different numbers may have one value too: layers of other types than those that
    rearrange, select, convert or compute element by element are never taken for equal.
    """
    numbers: dict[str, int] = {}
    known: dict[tuple[Any, ...], int] = {}
    fresh = itertools.count()
    for name in graph.inputs:
        numbers[name] = next(fresh)
    for layer in graph.layers:
        for i, name in enumerate(layer.outputs):
            key = _key(layer, numbers)
            numbers[name] = next(fresh) if key is None else known.setdefault((i, *key), next(fresh))
    return numbers


def _key(layer: Layer, numbers: dict[str, int]) -> tuple[Any, ...] | None:
    """Equal for layers that compute the same; None where nothing else does."""
    if layer.type not in _PURE or sum(x.nbytes for x in layer.weights.values()) > _LARGEST:
        return None
    if any(name is not None and name not in numbers for name in layer.inputs):
        return None
    attributes = repr(sorted(layer.attributes.items()))
    inputs = tuple(None if name is None else numbers[name] for name in layer.inputs)
    weights = tuple(
        (name, str(x.dtype), x.shape, x.tobytes()) for name, x in sorted(layer.weights.items())
    )
    return layer.type, attributes, inputs, weights
