"""Writes ``zoo/cards.json``, the facts on the cards of the zoo's models.

    python tools/zoo_cards.py

Parameters and multiply-accumulates are those of our networks; weights, published accuracy and
preprocessing are torchvision's, or are read from the weights that trtnet ships. A model without
either has none.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torchvision

from trtnet import weights, zoo
from trtnet.files import atomic_write
from trtnet.weights.torchvision_source import preprocessing_of
from trtnet.zoo import Entry
from trtnet.zoo.cards import FILE, papers
from trtnet.zoo.measuring import mac_count, parameter_count


def facts(entry: Entry) -> dict[str, Any]:
    """What ``cards.json`` has about one model."""
    return {
        **stated(entry),
        "parameters": parameters(entry),
        "macs": macs(entry),
        "default_weights": default_weights(entry),
        "weights": published_weights(entry),
    }


def stated(entry: Entry) -> dict[str, Any]:
    """What the model's file says, so that ``--list`` need not import it."""
    return {"task": entry.task, "input_shape": entry.input_shape, "papers": papers(entry)}


def parameters(entry: Entry) -> int:
    """How many parameters the model has by default."""
    return parameter_count(entry.build())


def macs(entry: Entry) -> int | None:
    """Multiply-accumulates for one input of the default shape; ``None`` where there is none."""
    if entry.input_shape is None:
        return None
    return mac_count(entry.build(), entry.input_shape, backend="rtx")


def default_weights(entry: Entry) -> str | None:
    """The name of the weights that ``--weights DEFAULT`` means, if any."""
    if entry.embedded:
        return entry.default_weights
    default = getattr(_enum(entry), "DEFAULT", None)
    name: str | None = default.name if default else None
    return name


def published_weights(entry: Entry) -> dict[str, dict[str, Any]]:
    """By name, what the card says about each."""
    if entry.embedded:
        return {name: _shipped(entry.weights_file(name)) for name in entry.embedded}
    return {found.name: _torchvisions(found, entry) for found in _enum(entry)}


def _enum(entry: Entry) -> Any:
    """torchvision's weights of the model; empty for a model that torchvision lacks."""
    return torchvision.models.get_model_weights(entry.name) if entry.torchvision else ()


def _torchvisions(found: Any, entry: Entry) -> dict[str, Any]:
    ((dataset, metrics),) = found.meta["_metrics"].items()
    accuracy = {name: value for name, value in metrics.items() if math.isfinite(value)}
    preprocessing = entry.preprocessing or preprocessing_of(found.transforms())
    return {"dataset": dataset, "accuracy": accuracy, "preprocessing": preprocessing}


def _shipped(file: Path) -> dict[str, Any]:
    """Its metadata has its share of right answers, mean intersection over union or COCO's mAP."""
    metadata = weights.load(file).metadata
    metrics = {"accuracy": "acc@1", "mean_iou": "miou", "coco_map": "box_map"}
    accuracy = {metrics[key]: round(100 * float(metadata[key]), 3)
                for key in metrics if key in metadata}  # fmt: skip
    preprocessing = json.loads(metadata["preprocessing"])
    return {"dataset": metadata["dataset"], "accuracy": accuracy, "preprocessing": preprocessing}


def main() -> int:
    """Writes the cards of all models that come with trtnet."""
    found = {}
    for name in zoo.list_models(shipped=True):
        print(name, flush=True)
        found[name] = facts(zoo.get_entry(name))
    lines = (f"{json.dumps(name)}: {json.dumps(found[name], allow_nan=False)}" for name in found)
    with atomic_write(FILE) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
