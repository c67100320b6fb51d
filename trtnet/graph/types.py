"""The graph types: plain frozen data without TensorRT objects; enums are stored by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TensorShapes = Mapping[str, tuple[int, ...]]
"""One shape per tensor name."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a network.

    Attributes:
        name: its name, unique in the graph.
        dtype: ``float32``, ``float16``, ``bfloat16``, ``float8_e4m3``, ``int64``, ``int32``,
            ``int8``, ``uint8``, ``bool``, ``int4``, ``float4_e2m1`` or ``float8_e8m0``.
        shape: one int per axis, -1 where the size is known only at run time.
        dimension_names: one name per axis of a network input, ``None`` where it has none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dimension_names: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: its name in the network.
        type: the name of its ``trt.LayerType``, such as ``"CONVOLUTION"``.
        inputs: tensor names in order, ``None`` for an optional input that is not connected.
        outputs: tensor names in order.
        attributes: ints, floats, bools, strings and tuples of them; an enum is its name, a
            value given by a tensor is ``None``. ``loop`` and ``conditional`` name the loop or
            conditional whose boundary the layer is part of.
        weights: arrays that the layer holds; bfloat16 values are their bits as ``uint16``,
            float8 and float4 values their bits as ``uint8``, int4 values are ``int8``.
    """

    name: str
    type: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; weights are compared bit for bit."""
        if not isinstance(other, Layer):
            return NotImplemented
        mine, theirs = (
            (layer.name, layer.type, layer.inputs, layer.outputs, layer.attributes)
            for layer in (self, other)
        )
        return (
            mine == theirs
            and self.weights.keys() == other.weights.keys()
            and all(_same_bits(array, other.weights[key]) for key, array in self.weights.items())
        )


@dataclass(frozen=True)
class Graph:
    """A whole network; its layers are in an order in which they can be executed.

    Attributes:
        name: the network's name.
        inputs: names of the network inputs, in order.
        outputs: names of the network outputs, in order.
        layers: every layer, each after those whose outputs it takes.
        tensors: every tensor by name.
        source: the owner of the memory that the weights are views of; keeps the views valid.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    tensors: Mapping[str, TensorInfo]
    source: Any = field(default=None, repr=False, compare=False)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    first, second = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return np.array_equal(first, second)


def parameters(graph: Graph) -> int:
    """Number of weight elements held by the layers of `graph`, constants included."""
    return sum(array.size for layer in graph.layers for array in layer.weights.values())
