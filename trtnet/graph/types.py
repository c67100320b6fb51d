"""The read-back graph: plain frozen data, no TensorRT objects, enums by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a network.

    Attributes:
        name: its name, unique in the graph.
        dtype: ``float32``, ``float16``, ``bfloat16``, ``float8_e4m3``, ``int64``, ``int32``,
            ``int8``, ``uint8`` or ``bool``.
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
            value given by a tensor is ``None``.
        weights: arrays the layer holds itself; bfloat16 values are their bits as ``uint16``,
            float8 values their bits as ``uint8``.
    """

    name: str
    type: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A whole network; its layers are in an order in which they can be executed.

    Attributes:
        name: the network's name.
        inputs: names of the network inputs, in order.
        outputs: names of the network outputs, in order.
        layers: every layer, each after those whose outputs it takes.
        tensors: every tensor by name.
        source: what owns the memory behind the weights; kept so that the views stay valid.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    tensors: Mapping[str, TensorInfo]
    source: Any = field(default=None, repr=False, compare=False)


def parameters(graph: Graph) -> int:
    """Number of weight elements held by the layers of `graph`, constants included."""
    return sum(array.size for layer in graph.layers for array in layer.weights.values())
