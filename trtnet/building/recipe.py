"""recipe_hash(): one hash over everything that an engine is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from trtnet.building.profiles import Profile, as_json
from trtnet.graph import Graph, read
from trtnet.version import __version__
from trtnet.weights.container import raw_bytes

if TYPE_CHECKING:
    from trtnet.building.options import BuildConfig
    from trtnet.network import Network


def recipe_hash(network: Network, profiles: list[Profile], config: BuildConfig) -> str:
    """SHA-256 over the network as TensorRT holds it (layers, attributes, weights), the profiles,
    the options and the versions, in hexadecimal. Equal recipes give interchangeable engines.

    Raises:
        UnsupportedError: a layer of a type that cannot be read back.
    """
    graph = read(network.definition)
    ingredients = {
        "trtnet": __version__,
        "backend": [network.backend.name, network.backend.version],
        "precision": network.precision,
        "options": config.chosen(),
        "profiles": as_json(profiles),
        "graph": _structure(graph),
    }
    digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode())
    for layer in graph.layers:
        for name in sorted(layer.weights):
            digest.update(raw_bytes(layer.weights[name]))
    return digest.hexdigest()


def _structure(graph: Graph) -> dict[str, object]:
    return {
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "tensors": [asdict(graph.tensors[name]) for name in sorted(graph.tensors)],
        "layers": [
            [
                *(layer.name, layer.type, layer.inputs, layer.outputs, dict(layer.attributes)),
                {name: [str(a.dtype), a.shape] for name, a in layer.weights.items()},
            ]
            for layer in graph.layers
        ],
    }
