"""Provenance: what a page was made of."""

from __future__ import annotations

from typing import Any

from trtnet.explorer.subject import Subject
from trtnet.pipeline.model import RANDOM, is_random
from trtnet.pipeline.packages import installed_version
from trtnet.pipeline.recipe import Recipe

_RANDOM = (
    "Random weights: the network has learned nothing; its answers, and the errors of a precision, "
    "mean nothing."
)


def provenance(subject: Subject) -> dict[str, Any]:
    """Where `subject` is from: model, shapes, weights, backend."""
    shapes = {name: list(subject.known_shapes[name]) for name in subject.graph.inputs}
    network, model = subject.network, subject.model
    batch = next((shape[0] for shape in shapes.values() if shape), 1)
    found: dict[str, Any] = {
        "model": subject.name if model is None else model.entry.name,
        "batch": batch,
        "shapes": shapes,
        "backend": None,
        "packages": {name: installed_version(name) for name in ("numpy", "torch")},
        "weights": None,
        "random_banner": None,
    }
    if network is not None:
        found["backend"] = {"name": network.backend.name, "version": network.backend.version}
    if model is not None:
        random = subject.values and is_random(model.weights)
        found["weights"] = {
            "source": model.weights.source
            if subject.values
            else "not loaded: no figure on this page depends on their values",
            "sha256": network.weights_sha256 if network and subject.values else None,
            "loaded": subject.values,
            "random": random,
            "notes": list(model.weights.notes) if subject.values else [],
        }
        found["random_banner"] = _RANDOM if random else None
    if subject.recipe is not None and subject.recipe.quantizes:
        found["calibration"] = _calibration(subject.recipe)
    if subject.sidecar:
        told = ("engine", "trtnet", "backend", "weights", "verification", "compute_capabilities")
        found["engine"] = {name: subject.sidecar.get(name) for name in told}
        weights = subject.sidecar.get("weights")
        if isinstance(weights, dict) and weights.get("origin") == RANDOM:
            found["random_banner"] = _RANDOM
    return found


def _calibration(recipe: Recipe) -> dict[str, Any]:
    """Where the ranges of a quantized network are from; costs do not depend on them."""
    settings = recipe.calibration
    if settings.data is None and settings.table is None:
        return {"data": "none: all ranges of the network shown are 1, which costs do not depend on"}
    table = None if settings.table is None else str(settings.table)
    return {"data": settings.data, "items": settings.items, "method": settings.method,
            "table": table}  # fmt: skip
