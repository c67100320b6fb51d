"""Plugin layers: what trtnet writes into a layer's metadata, and reads back.

TensorRT tells a plugin's name but not its attributes; and where it has no plugins, or none is
made, other layers stand for one. Such a stand-in is a region: an Identity at each input, a Cast at
each output, and between them what gives the outputs their shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trtnet.errors import UnsupportedError
from trtnet.graph.types import Layer, TensorInfo

_KEY = "trtnet.plugin"
_LONGEST = 4095  # TensorRT's limit for metadata

LAYER, INPUT, OUTPUT, INSIDE = "layer", "input", "output", "inside"


@dataclass(frozen=True)
class Mark:
    """What one layer is of a plugin.

    Attributes:
        plugin: ``"namespace::name"``.
        version: of the plugin.
        fields: its attributes as JSON.
        embedded: whether the engine holds its kernel and needs no Python.
        role: ``"layer"``, or the part of a stand-in that it is.
        call: name of the layer that a stand-in stands for.
        index: of the input or output.
        count: of the outputs.
    """

    plugin: str
    version: str
    fields: str
    embedded: bool = False
    role: str = LAYER
    call: str = ""
    index: int = 0
    count: int = 1

    def text(self) -> str:
        """As the layer's metadata.

        Raises:
            UnsupportedError: attributes that do not fit.
        """
        text = json.dumps({_KEY: asdict(self)}, separators=(",", ":"))
        if len(text.encode()) > _LONGEST:
            raise UnsupportedError(
                "the plugin's attributes are too long for TensorRT's metadata",
                module=self.plugin,
                expected=f"at most {_LONGEST} bytes with names",
                got=f"{len(text.encode())} bytes",
            )
        return text

    @property
    def is_layer(self) -> bool:
        """Whether it is the plugin's own layer, and no part of a stand-in."""
        return self.role == LAYER

    @property
    def is_visible(self) -> bool:
        """Whether its outputs are tensors of the graph."""
        return self.role in (LAYER, OUTPUT)

    @property
    def attributes(self) -> dict[str, Any]:
        """Those of a ``PLUGIN_V3`` layer in a graph."""
        namespace, _, name = self.plugin.partition("::")
        return {
            "plugin_name": name,
            "plugin_version": self.version,
            "plugin_namespace": namespace,
            "fields": self.fields,
        }


def mark_of(layer: Any) -> Mark | None:
    """What trtnet wrote into the metadata of an ``ILayer``; None where it wrote nothing."""
    text = layer.metadata
    if not text.startswith(f'{{"{_KEY}"'):
        return None
    try:
        return Mark(**json.loads(text)[_KEY])
    except (ValueError, TypeError):  # somebody else's
        return None


def identity(layer: Layer) -> tuple[str, str]:
    """Name, with namespace, and version of the plugin in a ``PLUGIN_V3`` layer."""
    stated = layer.attributes
    return f"{stated['plugin_namespace']}::{stated['plugin_name']}", stated["plugin_version"]


def marks(network: Any) -> Iterable[Mark]:
    """One for each plugin layer of `network`, an ``INetworkDefinition``."""
    found = (mark_of(network.get_layer(i)) for i in range(network.num_layers))
    return [
        mark
        for mark in found
        if mark is not None
        and (mark.is_layer or (mark.role == OUTPUT and mark.index == mark.count - 1))
    ]


class StandIns:
    """Puts the parts of stand-ins together while a network is read."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str], dict[int, str]] = {}
        self._feeders: set[str] = set()  # tensors that stand-ins take their shapes from

    def take(self, mark: Mark, layer: Any) -> list[Layer]:
        """Takes in one part; with the last one, gives the layer that the stand-in is."""
        if mark.role == INSIDE:
            sources = [layer.get_input(i) for i in range(layer.num_inputs)]
            self._feeders.update(tensor.name for tensor in sources if tensor is not None)
            return []
        end = layer.get_input(0) if mark.role == INPUT else layer.get_output(0)
        self._ends.setdefault((mark.call, mark.role), {})[mark.index] = end.name
        if mark.role == INPUT or mark.index < mark.count - 1:
            return []
        inputs, outputs = (self._ends.get((mark.call, role), {}) for role in (INPUT, OUTPUT))
        return [Layer(mark.call, "PLUGIN_V3", _row(inputs), _row(outputs), mark.attributes)]

    def cleared(
        self, layers: list[Layer], tensors: dict[str, TensorInfo], used: Iterable[str]
    ) -> list[Layer]:
        """`layers` without those that nothing but a stand-in's shape needs; their tensors go, too.

        Args:
            used: the network's outputs.
        """
        kept, spare = layers, self._feeders
        while spare:
            read = {name for layer in kept for name in layer.inputs} | {*used}
            idle = [layer for layer in kept if {*layer.outputs} <= spare - read and layer.outputs]
            for name in (name for layer in idle for name in layer.outputs):
                del tensors[name]
            dropped = {id(layer) for layer in idle}
            kept = [layer for layer in kept if id(layer) not in dropped]
            spare = {name for layer in idle for name in layer.inputs if name is not None}
        return kept


def _row(ends: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(ends[i] for i in sorted(ends))
