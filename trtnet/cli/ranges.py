"""The table of what FP16 does to the values of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from trtnet.cli.streams import say
from trtnet.cli.tables import table

if TYPE_CHECKING:
    from trtnet.quantization import RangeRow

_SHOWN = 12
_NOTABLE = 0.05  # share of FP16's range, or of values that vanish, that is worth a row
_COLUMNS = (
    *(("module", "left"), ("tensor", "left"), ("largest", "right"), ("of FP16's range", "right")),
    *(("overflow", "right"), ("underflow", "right"), ("NaN, inf", "right")),
)


def print_ranges(rows: Sequence[RangeRow], stream: TextIO) -> None:
    """Prints those of `rows` that matter, the worst first, and the largest share in a line. The
    rows are sorted, the worst first."""
    notable = [row for row in rows if _matters(row)]
    if not notable:
        worst = max(rows, key=lambda row: row.share, default=None)
        if worst is not None:
            say(f"FP16 holds all {len(rows):,} tensors: at most {worst.share:.2%} of its range "
                f"({worst.module})", stream=stream)  # fmt: skip
        return
    cells = [
        (row.module, row.tensor, f"{row.amax:.4g}", f"{row.share:.2%}",
         _count(row.overflow, row.overflow_share), _count(row.underflow, row.underflow_share),
         row.nonfinite or "")
        for row in notable[:_SHOWN]
    ]  # fmt: skip
    say("", "what FP16 does to the values, worst first", stream=stream)
    table(_COLUMNS, cells, stream)
    if len(notable) > _SHOWN:
        say(f"... and {len(notable) - _SHOWN} more tensors like these", stream=stream)


def _matters(row: RangeRow) -> bool:
    return bool(row.overflow or row.nonfinite) or max(row.share, row.underflow_share) >= _NOTABLE


def _count(number: int, share: float) -> str:
    return f"{number:,} ({share:.2%})" if number else ""
