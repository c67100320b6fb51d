"""The columns of a study that follow from others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from trtnet.analysis.costing import intensity
from trtnet.records import Row

_COUNTS = ("layers", "macs", "parameters", "bytes_read", "bytes_written", "casts", "qdq")
_SUMS = (
    *("compute_s", "memory_s", "bound_s", "time_s", "min_s"),
    *("error2_alone", "error2_marginal", "saved_s", "saved_marginal_s"),
)


def summed(rows: Sequence[Row]) -> Row:
    """The columns of all `rows` together that add up, ``None`` where no row has a value, and those
    of measured times. Errors add up as far as they are independent of each other, which makes their
    sum a prediction."""
    found: Row = {key: sum(row[key] for row in rows) for key in _COUNTS}
    for key in _SUMS:
        known = [row[key] for row in rows if row[key] is not None]
        found[key] = math.fsum(known) if known else None
    return found | _surety([row for row in rows if row["time_s"] is not None])


def _surety(timed: Sequence[Row]) -> Row:
    """How sure the sum of the times of `timed` is: a sum of medians has no interval that is known,
    and a least time only where each of its parts has one."""
    found: Row = {
        "low_s": None,
        "high_s": None,
        "estimated": any(row["estimated"] for row in timed),
    }
    if len(timed) == 1:
        found |= {key: timed[0][key] for key in ("low_s", "high_s")}
    if any(row["min_s"] is None for row in timed):
        found["min_s"] = None
    return found


def finished(rows: Sequence[Row], every: Iterable[Row]) -> list[Row]:
    """`rows` with the columns that follow from others.

    Args:
        every: rows that are the whole network, whose sums shares are of.
    """
    parts = [*every]
    bound = math.fsum(row["bound_s"] or 0.0 for row in parts)
    time = math.fsum(row["time_s"] or 0.0 for row in parts)
    return [row | _derived(row, bound, time) for row in rows]


def _derived(row: Row, bound: float, time: float) -> Row:
    return {
        "intensity": intensity(row["macs"], row["bytes_read"] + row["bytes_written"]),
        "bound_share": _quotient(row["bound_s"], bound),
        "limit": row["limit"] or _limit(row),
        "share": _quotient(row["time_s"], time),
        "gap": _quotient(row["time_s"] if row["min_s"] is None else row["min_s"], row["bound_s"]),
        "sqnr_alone_db": _decibels(row["error2_alone"]),
        "benefit": _quotient(row["saved_s"], row["error2_alone"]),
    }


def _limit(row: Row) -> str | None:
    """What takes longer; ``None`` without a bound, and for what costs nothing."""
    if row["kernel"] is None or not row["bound_s"]:
        return None
    return "compute" if row["compute_s"] > row["memory_s"] else "memory"


def _quotient(value: float | None, by: float | None) -> float | None:
    return None if value is None or not by else value / by


def _decibels(square: float | None) -> float | None:
    """Of a squared relative error, as SQNR; ``None`` for an error of 0, which has none."""
    return None if not square or not math.isfinite(square) else -10 * math.log10(square)
