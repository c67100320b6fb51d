"""Other weights for the engine of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trtnet.building import refitting
from trtnet.building.new_weights import Calibration
from trtnet.building.plan import Plan
from trtnet.engines.device import Device
from trtnet.engines.protocol import Engine, PreparedRefit
from trtnet.errors import UnsupportedError


@dataclass(frozen=True)
class _Nothing:
    """No new weight: the engine stays as it is, with its bytes."""

    engine: bytes
    keeps_contexts: bool = True

    def apply(self) -> bytes:
        return self.engine


def prepare(
    engine: Engine,
    device: Device,
    plan: Plan,
    state: Mapping[str, Any],
    calibration: Calibration | None,
) -> tuple[PreparedRefit, Callable[[bytes], Plan]]:
    """What puts the weights of `state` into `engine`, and what makes the new plan of the new
    engine's bytes. Nothing has changed yet.

    Raises:
        PlanError, WeightsError, UnsupportedError, ExecutionError: see
            :meth:`trtnet.Session.refit`.
    """
    make = getattr(engine, "prepare_refit", None)
    if make is None:
        raise UnsupportedError(
            f"engines of the backend {engine.backend} cannot get other weights while they run",
            fix="open another session on plan.refit(state)",
        )
    found = refitting.compare(plan.described, state, calibration)
    change = refitting.change_of(plan.described, found)
    prepared: PreparedRefit = _Nothing(plan.engine)
    if change.arrays:
        prepared = device.aside(lambda: make(plan, change))
    about = refitting.about(state)

    def new_plan(content: bytes) -> Plan:
        return Plan(content, refitting.new_sidecar(plan.sidecar, content, found, about))

    return prepared, new_plan
