"""Writes ``zoo/cards.json``, the facts on the cards of the zoo's models.

    python tools/zoo_cards.py

Parameters and multiply-accumulates are those of our networks; weights, published accuracy and
preprocessing are torchvision's, or are read from the weights that trtnet ships.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from zoo_checks import define

from trtnet import graph, weights, zoo
from trtnet.files import atomic_write
from trtnet.weights.torchvision_source import preprocessing_of
from trtnet.zoo import Entry
from trtnet.zoo.cards import FILE


def facts(entry: Entry) -> dict[str, Any]:
    """What ``cards.json`` has about one model."""
    return {
        "parameters": parameters(entry),
        "macs": macs(entry),
        "default_weights": default_weights(entry),
        "weights": published_weights(entry),
    }


def parameters(entry: Entry) -> int:
    return sum(parameter.numel for parameter in entry.build().parameters())


def macs(entry: Entry) -> int:
    """Multiply-accumulates for one image of the default size."""
    model = entry.build()
    slots = [*model.named_parameters(), *model.named_buffers()]
    model.load_state_dict({key: np.zeros(slot.shape, np.float32) for key, slot in slots})
    network = define(model, (1, *entry.input_shape), backend="rtx", fold_batch_norm=False)
    return graph.macs(graph.read(network.definition))


def default_weights(entry: Entry) -> str | None:
    if entry.embedded:
        return entry.default_weights
    default = getattr(_enum(entry.name), "DEFAULT", None)
    return default.name if default else None


def published_weights(entry: Entry) -> dict[str, dict[str, Any]]:
    """By name, what the card says about each."""
    if entry.embedded:
        return {name: _shipped(file) for name, file in entry.embedded.items()}
    return {found.name: _torchvisions(found) for found in _enum(entry.name)}


def _enum(name: str) -> Any:
    return torchvision.models.get_model_weights(name)


def _torchvisions(found: Any) -> dict[str, Any]:
    ((dataset, metrics),) = found.meta["_metrics"].items()
    accuracy = {name: value for name, value in metrics.items() if math.isfinite(value)}
    preprocessing = preprocessing_of(found.transforms())
    return {"dataset": dataset, "accuracy": accuracy, "preprocessing": preprocessing}


def _shipped(file: str) -> dict[str, Any]:
    """Its metadata has the share of right answers, or the mean intersection over union."""
    metadata = weights.load(Path(weights.__file__).parent / file).metadata
    metrics = {"accuracy": "acc@1", "mean_iou": "miou"}
    accuracy = {metrics[key]: round(100 * float(metadata[key]), 3)
                for key in metrics if key in metadata}  # fmt: skip
    preprocessing = json.loads(metadata["preprocessing"])
    return {"dataset": metadata["dataset"], "accuracy": accuracy, "preprocessing": preprocessing}


def main() -> int:
    found = {}
    for name in zoo.list_models():
        print(name, flush=True)
        found[name] = facts(zoo.get_entry(name))
    lines = (f"{json.dumps(name)}: {json.dumps(found[name], allow_nan=False)}" for name in found)
    with atomic_write(FILE) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
