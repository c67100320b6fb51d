"""Who makes each tensor of a graph, and who reads it."""

from __future__ import annotations

from trtnet.graph.types import Graph, Layer

# Layers that move, cut, join or repeat elements without computing with them.
MOVES = frozenset(
    {"CONCATENATION", "GATHER", "PADDING", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE"}
)


class Links:
    """The edges of a graph.

    Attributes:
        maker: the layer that makes each tensor; network inputs have none.
        readers: the layers that take each tensor, in order.
    """

    def __init__(self, graph: Graph) -> None:
        self.maker = {name: layer for layer in graph.layers for name in layer.outputs}
        self.readers: dict[str, list[Layer]] = {name: [] for name in graph.tensors}
        for layer in graph.layers:
            for name in dict.fromkeys(layer.inputs):
                if name is not None:
                    self.readers[name].append(layer)

    def origin(self, name: str | None, through: frozenset[str]) -> Layer | None:
        """The layer `name` comes from, looking through the first input of the types `through`.

        None for a network input, an input that is not connected, and a value that recurs.
        """
        seen: set[str] = set()
        while name is not None and name not in seen:
            layer = self.maker.get(name)
            if layer is None or layer.type not in through:
                return layer
            seen.add(name)
            name = layer.inputs[0] if layer.inputs else None
        return None
