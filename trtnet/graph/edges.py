"""The edges of a graph: the producer and the readers of each tensor."""

from __future__ import annotations

from trtnet.graph.types import Graph, Layer

# Layers that move, cut, join or repeat elements without computing with them.
MOVES = frozenset(
    {"CONCATENATION", "GATHER", "PADDING", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE"}
)


class Edges:
    """The producer and the readers of each tensor of a graph.

    Attributes:
        producers: the layer that produces each tensor; network inputs have none.
        readers: the layers that read each tensor, in order.
    """

    def __init__(self, graph: Graph) -> None:
        self.producers = {name: layer for layer in graph.layers for name in layer.outputs}
        self.readers: dict[str, list[Layer]] = {name: [] for name in graph.tensors}
        for layer in graph.layers:
            for name in dict.fromkeys(layer.inputs):
                if name is not None:
                    self.readers[name].append(layer)

    def origin(self, name: str | None, through: frozenset[str]) -> Layer | None:
        """The producer of `name`; layers of the types `through` are skipped, along first inputs.

        None for a network input, an input that is not connected, and a value that depends on
        itself through a loop.
        """
        seen: set[str] = set()
        while name is not None and name not in seen:
            layer = self.producers.get(name)
            if layer is None or layer.type not in through:
                return layer
            seen.add(name)
            name = layer.inputs[0] if layer.inputs else None
        return None
