"""The table of what FP16 does to the values of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from trtnet.cli.streams import say
from trtnet.cli.tables import table

if TYPE_CHECKING:
    from trtnet.quantization import RangeRow

_SHOWN = 12
_COLUMNS = (
    *(("module", "left"), ("tensor", "left"), ("largest", "right"), ("of FP16's range", "right")),
    *(("overflow", "right"), ("underflow", "right"), ("NaN, inf", "right")),
)


def print_ranges(rows: Sequence[RangeRow], stream: TextIO) -> None:
    """Prints the worst of `rows`, which are sorted, the worst first."""
    cells = [
        (row.module, row.tensor, f"{row.amax:.4g}", f"{row.share:.2%}",
         _count(row.overflow, row.overflow_share), _count(row.underflow, row.underflow_share),
         row.nonfinite or "")
        for row in rows[:_SHOWN]
    ]  # fmt: skip
    say("", "what FP16 does to the values, worst first", stream=stream)
    table(_COLUMNS, cells, stream)
    if len(rows) > _SHOWN:
        say(f"... and {len(rows) - _SHOWN} more tensors", stream=stream)


def _count(number: int, share: float) -> str:
    return f"{number:,} ({share:.2%})" if number else ""
