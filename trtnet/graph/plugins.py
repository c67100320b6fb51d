"""Plugin marks: plugin attributes in the metadata of layers, and reading them back.

TensorRT gives a plugin's name but not its attributes. Where a backend has no plugins, or no plugin
object is created, ordinary layers stand in for it: an Identity at each input, a Cast at each
output, and between them layers that give the outputs their shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trtnet.errors import UnsupportedError, UsageError
from trtnet.graph.types import Layer, TensorInfo
from trtnet.reading.documents import Source, from_json
from trtnet.reading.schema import checked

_METADATA_KEY = "trtnet.plugin"
_MAX_BYTES = 4095  # TensorRT's limit for metadata

LAYER, INPUT, OUTPUT, INSIDE = "layer", "input", "output", "inside"


@dataclass(frozen=True)
class Mark:
    """The part that one layer plays in a plugin call.

    Attributes:
        plugin: ``"namespace::name"``.
        version: the plugin's version.
        fields: the plugin's attributes as JSON.
        embedded: whether the engine holds the kernel and needs no Python.
        role: ``"layer"`` for the plugin's own layer; in a stand-in ``"input"``, ``"output"`` or
            ``"inside"``.
        call: name of the plugin layer that the stand-in replaces.
        index: index of the plugin's input or output.
        count: number of the plugin's outputs.
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
        """The mark as text for the layer's metadata.

        Raises:
            UnsupportedError: more text than TensorRT's metadata can hold.
        """
        text = json.dumps({_METADATA_KEY: asdict(self)}, separators=(",", ":"))
        if len(text.encode()) > _MAX_BYTES:
            raise UnsupportedError(
                "the plugin's attributes are too long for the metadata of a TensorRT layer",
                module=self.plugin,
                expected=f"at most {_MAX_BYTES} bytes, names included",
                got=f"{len(text.encode())} bytes",
                fix="pass large values as inputs instead of attributes",
            )
        return text

    @property
    def is_layer(self) -> bool:
        """Whether this is the plugin's own layer, not a part of a stand-in."""
        return self.role == LAYER

    @property
    def is_visible(self) -> bool:
        """Whether the layer's outputs are tensors of the graph."""
        return self.role in (LAYER, OUTPUT)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the ``PLUGIN_V3`` layer in a graph."""
        namespace, _, name = self.plugin.partition("::")
        return {
            "plugin_name": name,
            "plugin_version": self.version,
            "plugin_namespace": namespace,
            "fields": self.fields,
        }


def mark_of(layer: Any) -> Mark | None:
    """The mark in the metadata of an ``ILayer``; None where trtnet wrote none."""
    text = layer.metadata
    if not text.startswith(f'{{"{_METADATA_KEY}"'):
        return None
    source = Source("", "the metadata of a layer")
    try:
        return checked(from_json(text, source), dict[str, Mark], source)[_METADATA_KEY]
    except UsageError:  # written by another program
        return None


def identity(layer: Layer) -> tuple[str, str]:
    """``"namespace::name"`` and version of the plugin in a ``PLUGIN_V3`` layer."""
    stated = layer.attributes
    return f"{stated['plugin_namespace']}::{stated['plugin_name']}", stated["plugin_version"]


def marks(network: Any) -> Iterable[Mark]:
    """One mark for each plugin call in `network`, an ``INetworkDefinition``."""
    found = (mark_of(network.get_layer(i)) for i in range(network.num_layers))
    return [
        mark
        for mark in found
        if mark is not None
        and (mark.is_layer or (mark.role == OUTPUT and mark.index == mark.count - 1))
    ]


class StandIns:
    """Joins the parts of each stand-in into one plugin layer while a network is read."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str], dict[int, str]] = {}
        self._shape_sources: set[str] = set()  # tensors that stand-ins read for shapes

    def take(self, mark: Mark, layer: Any) -> list[Layer]:
        """Records one part; with the last part, returns the plugin layer."""
        if mark.role == INSIDE:
            sources = [layer.get_input(i) for i in range(layer.num_inputs)]
            self._shape_sources.update(tensor.name for tensor in sources if tensor is not None)
            return []
        end = layer.get_input(0) if mark.role == INPUT else layer.get_output(0)
        self._ends.setdefault((mark.call, mark.role), {})[mark.index] = end.name
        if mark.role == INPUT or mark.index < mark.count - 1:
            return []
        inputs, outputs = (self._ends.get((mark.call, role), {}) for role in (INPUT, OUTPUT))
        return [Layer(mark.call, "PLUGIN_V3", _row(inputs), _row(outputs), mark.attributes)]

    def without_shape_layers(
        self, layers: list[Layer], tensors: dict[str, TensorInfo], used: Iterable[str]
    ) -> list[Layer]:
        """`layers` without those that only computed shapes for stand-ins.

        Args:
            layers: of the whole network.
            tensors: of the whole network; those of removed layers are deleted from it.
            used: names of the network's outputs.
        """
        kept, spare = layers, self._shape_sources
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
