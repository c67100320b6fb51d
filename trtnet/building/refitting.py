"""Other weights in a built engine, by the keys of their state_dict."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trtnet import backend as backends
from trtnet.building.new_weights import Calibration, NewWeights, new_weights
from trtnet.building.sidecar import Sidecar
from trtnet.building.stated_refit import StatedRefit
from trtnet.errors import PlanError, UnsupportedError

_OF_THE_OLD_WEIGHTS = ("verification", "weights", "recipe", "calibration")


@dataclass(frozen=True)
class EngineChange:
    """What a backend is asked to put into an engine.

    Attributes:
        arrays: values by layer and role, as :func:`trtnet.dtypes.to_storage` gives them.
        stated: the sidecar's entry.
        backend: the backend's name.
        was_stripped: whether the engine has no values in these places yet.
        excludes_runtime: whether it is to bring no lean runtime, as it was built.
    """

    arrays: Mapping[tuple[str, str], np.ndarray]
    stated: StatedRefit
    backend: str
    was_stripped: bool
    excludes_runtime: bool = False


class EngineRefitter(Protocol):
    """Puts weights into engines of one backend; see
    :class:`trtnet.backend.BackendDescription`."""

    def __call__(self, engine: bytes, change: EngineChange) -> bytes:
        """The engine with `change`; `engine` itself is as it was.

        Raises:
            PlanError: the engine does not fit its recipes.
            BackendError, ExecutionError: the backend cannot do it on this machine, or refuses.
        """


def recipes_of(described: Sidecar) -> StatedRefit:
    """The recipes in a sidecar.

    Raises:
        PlanError: there are none.
    """
    if described.refit is None:
        raise PlanError(
            "the engine keeps no recipes of its weights, so it cannot be refitted",
            fix="build it again with --refit, or BuildConfig(refit=True)",
        )
    return described.refit


def compare(
    described: Sidecar, state: Mapping[str, Any], calibration: Calibration | None
) -> NewWeights:
    """See :func:`trtnet.building.new_weights.new_weights`."""
    stated = recipes_of(described)
    every = not backends.description(_backend(described)).writes_archive
    return new_weights(stated, state, calibration, every)


def refitted(
    engine: bytes,
    sidecar: Mapping[str, Any],
    described: Sidecar,
    found: NewWeights,
    about: Mapping[str, Any],
) -> tuple[bytes, dict[str, Any]]:
    """The engine with the weights that were `found`, and its sidecar.

    Args:
        about: entries of the sidecar about the new weights.

    Raises:
        WeightsError: the report says that it is not possible.
        PlanError, BackendError, ExecutionError: see :class:`EngineRefitter`.
    """
    change = change_of(described, found)
    made = _refitter(change.backend)(engine, change) if found.arrays else engine
    return made, new_sidecar(sidecar, made, found, about)


def change_of(described: Sidecar, found: NewWeights) -> EngineChange:
    """What a backend is asked for, to put the weights in that were `found`.

    Raises:
        WeightsError: the report says that it is not possible.
        PlanError: the sidecar names no backend.
    """
    found.report.require()
    stated = recipes_of(described)
    alone = described.options is not None and described.options.exclude_lean_runtime
    return EngineChange(found.arrays, stated, _backend(described), stated.stripped, alone)


def about(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a sidecar says about the weights `state`."""
    source = getattr(state, "source", None)
    return {"weights": {"source": source if isinstance(source, str) else "a state_dict"}}


def _backend(described: Sidecar) -> str:
    stated = described.backend.name if described.backend is not None else None
    if stated is None or stated not in backends.names():
        raise PlanError("the sidecar names no backend that is known", got=stated,
                        fix="build the engine again")  # fmt: skip
    return stated


def _refitter(name: str) -> EngineRefitter:
    place = backends.description(name).engine_refitter
    if place is None:
        raise UnsupportedError(f"engines of the backend {name} cannot be refitted",
                               fix="build the engine again")  # fmt: skip
    module, _, function = place.partition(":")
    found: EngineRefitter = getattr(importlib.import_module(module), function)
    return found


def new_sidecar(
    old: Mapping[str, Any], engine: bytes, found: NewWeights, about: Mapping[str, Any]
) -> dict[str, Any]:
    """`old` with what changes: the engine, the keys, the ranges; what was said of the old weights
    is left out, so that no later build takes the engine for the old one."""
    entry = dict(old["refit"])
    keys = {name: dict(value) for name, value in entry["keys"].items()}
    for name, known in found.keys.items():
        keys[name]["sha256"] = known.sha256
    steps = [dict(step) for step in entry["steps"]]
    for step in steps:
        if step["op"] == "range":
            tensor = step["options"]["tensor"]
            step["options"] = {"tensor": tensor, "amax": found.amax[tensor]}
    refit = {**entry, "keys": keys, "steps": steps, "stripped": False}
    if not found.arrays:  # the same engine
        return {**old, "refit": refit}
    kept = {key: value for key, value in old.items() if key not in _OF_THE_OLD_WEIGHTS}
    options = {**(old.get("options") or {})}
    options.pop("strip_weights", None)
    return {
        **kept,
        **about,
        "options": options,
        "recipe": None,
        "refit": refit,
        "engine": {"bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()},
    }
