"""How a model is served: what the user chooses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trtnet.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""Names of models: they are folders, and parts of URLs."""


@dataclass(frozen=True)
class Settings:
    """How Triton serves a model.

    Attributes:
        name: of the model; ``None`` for the name in the engine's sidecar, or of its file.
        max_batch: the largest batch; ``None`` for the largest of the engine's profiles, and for a
            model that is built here 8. Engines of one fixed batch have none.
        instances: how many run at once, on each GPU or on the CPU.
        dynamic_batching: put requests together that wait for a batch; the number is how many
            microseconds the first of them may wait for others, 0 for none. ``None`` for the
            server's default, which is not to, except of the ``tensorrt`` backend.
        ensemble: add models that take encoded images and give answers.

    Raises:
        UsageError: a name or a number that Triton does not take.
    """

    name: str | None = None
    max_batch: int | None = None
    instances: int = 1
    dynamic_batching: int | None = None
    ensemble: bool = False

    def __post_init__(self) -> None:
        if self.name is not None and not NAME.fullmatch(self.name):
            raise UsageError(
                "--name (name=): Triton's models are folders and parts of URLs",
                expected="at most 128 letters, digits, '_', '-' and '.', the first no '-' or '.'",
                got=self.name,
            )
        for flag, value, least in (
            ("--max-batch (max_batch=)", self.max_batch, 1),
            ("--instances (instances=)", self.instances, 1),
            ("--dynamic-batching (dynamic_batching=)", self.dynamic_batching, 0),
        ):
            if value is not None and not least <= value < 2**31:
                raise UsageError(f"{flag} is not {'positive' if least else 'a time'}", got=value)
