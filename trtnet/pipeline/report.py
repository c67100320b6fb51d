"""Parts of the report of a build, in JSON values. Their keys are a contract."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet.backend import description
from trtnet.finite import json_number
from trtnet.hardware import missing_gpu

if TYPE_CHECKING:
    from trtnet.verification import Row


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
        tool = about.run_tool and f"{about.run_tool} --loadEngine={shlex.quote(engine)}"
        bench = f"trtnet bench {shlex.quote(engine)}"
        reason = f"{missing}; where there is a GPU: {tool or bench}"
    else:
        reason = (
            "it is only built and verified here; it runs on this machine: "
            f"trtnet bench {shlex.quote(engine)}"
        )
    return {"ran": False, "reason": reason}


def worst_row(rows: Sequence[Row]) -> Row:
    """The one that is furthest off; one that is not finite is worse than any number, and boxes
    without a partner are worse than any distance of those that have one."""

    def badness(row: Row) -> tuple[float, float]:
        lost = 0.0 if row.boxes is None else 1 - row.boxes.share
        return (math.inf, 0.0) if math.isnan(row.rel_l2) else (lost, row.rel_l2)

    return max(rows, key=badness)


def json_value(value: Any) -> Any:
    """`value` for JSON: ``None`` for NaN and infinity, a list for a tuple."""
    if isinstance(value, float):
        return json_number(value)
    return list(value) if isinstance(value, tuple) else value
