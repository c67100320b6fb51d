"""Settings: what the process that runs cases is told."""

from __future__ import annotations

from dataclasses import dataclass

READY = "ready"
"""The first line of that process's output, when everything is imported."""


@dataclass(frozen=True)
class Settings:
    """How cases are run.

    Attributes:
        backend: name of a backend.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        not_executed: why this machine cannot execute its engines; ``None`` where it can.
        timed: whether models are timed.
    """

    backend: str
    device: str
    not_executed: str | None = None
    timed: bool = True
