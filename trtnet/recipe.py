"""The recipe of an engine: one hash over everything that goes into its build."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trtnet
from trtnet import graph

if TYPE_CHECKING:
    from trtnet.builder import BuildConfig
    from trtnet.network import Network
    from trtnet.profiles import Shapes


def recipe(
    network: Network, profiles: Sequence[Mapping[str, Shapes]], config: BuildConfig
) -> str:
    """SHA-256 over what TensorRT holds (structure and weights, read back), the profiles, the
    options and the versions. Two builds with one recipe give interchangeable engines."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\0")

    add([trtnet.__version__, network.backend.name, network.backend.version, network.precision])
    add([{name: dataclasses.astuple(s) for name, s in profile.items()} for profile in profiles])
    add(dataclasses.asdict(config))
    read = graph.read(network.definition)
    add([read.inputs, read.outputs])
    add([dataclasses.astuple(info) for info in read.tensors.values()])
    for layer in read.layers:
        add([layer.name, layer.type, layer.inputs, layer.outputs, dict(layer.attributes)])
        for name, array in sorted(layer.weights.items()):
            add([name, array.dtype.str, array.shape])
            digest.update(array.reshape(-1).view("uint8").data)
    return digest.hexdigest()
