"""Parts of the report of a build, in JSON values. Their keys are a contract."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet.backend import description
from trtnet.finite import json_number
from trtnet.hardware import missing_gpu

if TYPE_CHECKING:
    from trtnet.verification import Row, Verification

_DISTANCES = ("max_abs", "rel_l2", "sqnr_db", "cosine")


BENCH = "trtnet bench"
"""The command that a reason ends with, followed by the engine."""


def executed(backend: str, engine: str | None) -> dict[str, Any]:
    """The ``executed`` part of the report. Building never runs an engine, so it says why not.

    Args:
        backend: name of the backend.
        engine: path of the engine; ``None`` where none was written.
    """
    about, missing = description(backend), missing_gpu()
    if engine is None:
        reason = "no engine was written"
    elif about.needs_gpu and missing is not None:
        tool = about.run_tool and f"{about.run_tool} --loadEngine={engine}"
        reason = f"{missing}; where there is a GPU: {tool or f'trtnet bench {engine}'}"
    else:
        reason = (
            f"it is only built and verified here; it runs on this machine: trtnet bench {engine}"
        )
    return {"ran": False, "reason": reason}


def verify_summary(
    verification: Verification | None, images: int = 0, against: str | None = None
) -> dict[str, Any]:
    """The ``verify`` part of the report, in JSON values: ``None`` for NaN and infinity, and for
    everything if verification was skipped. The numbers are those of the worst output; a map of
    classes has no distance, but ``positions``, see :class:`trtnet.verification.Row`."""
    if verification is None:
        keys = (
            *_DISTANCES,
            "argmax_agreement",
            "positions",
            "first_divergent",
            "blame",
        )
        missing = dict.fromkeys((*keys, "passed"))
        return {"against": against, "inputs": images, **missing, "rows": []}
    blame = verification.blame
    output = worst_row(verification.outputs)
    distances = {name: json_value(getattr(output, name)) for name in _DISTANCES}
    return {
        "against": against,
        "inputs": images,
        **(distances if output.positions is None else dict.fromkeys(_DISTANCES)),
        "argmax_agreement": verification.argmax_agreement,
        "positions": output.positions,
        "first_divergent": verification.first_divergent,
        "blame": None if blame is None else {"where": blame.where, "message": blame.message},
        "passed": verification.passed,
        "rows": [
            {key: json_value(value) for key, value in dataclasses.asdict(row).items()}
            for row in (*verification.rows, *verification.outputs)
        ],
    }


def worst_row(rows: Sequence[Row]) -> Row:
    """The one that is furthest off; one that is not finite is worse than any number."""
    return max(rows, key=lambda row: math.inf if math.isnan(row.rel_l2) else row.rel_l2)


def json_value(value: Any) -> Any:
    """`value` for JSON: ``None`` for NaN and infinity, a list for a tuple."""
    if isinstance(value, float):
        return json_number(value)
    return list(value) if isinstance(value, tuple) else value
