"""Cases for what TensorRT's tools write about an engine, which the explorer reads."""

from __future__ import annotations

import functools
import itertools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzzing.mutations import document
from trtnet import explorer
from trtnet.graph import Graph, Layer, TensorInfo

_TENSOR = {"Name": "y", "Dimensions": [1, 4], "Format/Datatype": "Row major linear FP16 format"}
_LAYERS = {
    "Layers": [
        "{ForeignNode[a/softmax...c/softmax]}",
        {"Name": "d/softmax", "LayerType": "SoftMax", "Inputs": [_TENSOR], "Outputs": [_TENSOR],
         "TacticName": "t", "Metadata": "[trtnet Layer: d/softmax]"},
    ],
    "Bindings": ["x", "y"],
    "I/O Tensors": [{"Name": "x", "ProfileInfo": []}],
}  # fmt: skip
_PROFILE = [
    {"count": 3},
    {"name": "d/softmax", "timeMs": 0.3, "averageMs": 0.1, "medianMs": 0.1, "percentage": 99.0},
]


@functools.cache
def _folder() -> Path:
    """A folder for the files of this process."""
    return Path(tempfile.mkdtemp(prefix="trtnet-fuzz-"))


@functools.cache
def _network() -> Graph:
    """Four layers in a row."""
    names = ("x", "a", "b", "c", "d")
    return Graph(
        "chain",
        ("x",),
        ("d",),
        tuple(
            Layer(f"{after}/softmax", "SOFTMAX", (before,), (after,), {"axes": 2})
            for before, after in itertools.pairwise(names)
        ),
        {name: TensorInfo(name, "float32", (1, 4)) for name in names},
    )


def engine_layers(draw: random.Random) -> None:
    """The JSON of an engine inspector, and a profile: both are attributed to the network."""
    layers, profile = _folder() / "layers.json", _folder() / "profile.json"
    layers.write_bytes(document(_LAYERS, draw))
    profile.write_bytes(document(_PROFILE, draw))
    first = draw.random() < 0.5
    found = explorer.write(
        _network(),
        json=_folder() / "page.json",
        layer_info=layers if first else None,
        profile=None if first else profile,
    )
    for shares in found["builds"][0]["engine"]["layers"]["shares"]:
        assert not shares or abs(sum(share for _, share in shares) - 1) < 1e-9


CASES: dict[str, Callable[[random.Random], None]] = {"engine-layers": engine_layers}
