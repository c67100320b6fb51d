"""Other weights in an engine that is the archive of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import PlanError
from trtnet.graph.archive import STRIPPED
from trtnet.reading.documents import Source, from_json
from trtnet.weights import safetensors_writer
from trtnet.weights.container import Weights
from trtnet.weights.loading import loads

if TYPE_CHECKING:
    from trtnet.building.refitting import EngineChange


def refit_archive(engine: bytes, change: EngineChange) -> bytes:
    """See :class:`trtnet.building.refitting.EngineRefitter`. The bytes are those of a new build."""
    stored = loads(engine, "the engine")
    numbers = _numbers(stored)
    state: dict[str, Any] = dict(stored)
    for (layer, role), array in change.arrays.items():
        key = f"{numbers.get(layer)}.{role}"
        old = state.get(key)
        if old is None or (old.size and not change.was_stripped
                           and (old.shape, old.dtype) != (array.shape, array.dtype)):  # fmt: skip
            raise PlanError(
                "the sidecar's recipes do not fit the engine",
                module=layer,
                expected=f"{role} of shape {array.shape}, {array.dtype}",
                got="none" if old is None else f"{old.shape}, {old.dtype}",
                fix="build the engine again",
            )
        state[key] = array
    metadata = {key: text for key, text in stored.metadata.items() if key != STRIPPED}
    return safetensors_writer.dumps(state, metadata)


def strip_archive(engine: bytes, weights: Mapping[tuple[str, str], object]) -> bytes:
    """The archive without the values of `weights`, by layer and role."""
    stored = loads(engine, "the engine")
    numbers = _numbers(stored)
    state: dict[str, Any] = dict(stored)
    for layer, role in weights:
        key = f"{numbers[layer]}.{role}"
        state[key] = np.empty(0, state[key].dtype)
    return safetensors_writer.dumps(state, {**stored.metadata, STRIPPED: str(len(weights))})


def _numbers(stored: Weights) -> dict[str, int]:
    """The place of each layer of the archive."""
    source = Source("the engine", "an archive of a network", PlanError, "build it again")
    content = from_json(stored.metadata.get("graph", ""), source, infinite=True)
    try:
        return {str(layer["name"]): i for i, layer in enumerate(content["layers"])}
    except (TypeError, KeyError) as error:
        raise source.refuse("it has no layers", got=error) from error
