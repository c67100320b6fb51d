"""Whether FP16 holds what a network computes: the table, and the refusal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from trtnet import graph
from trtnet.cli.tables import table
from trtnet.graph import Graph

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.quantization import RangeRow

_SHOWN = 12
_COLUMNS = (
    *(("module", "left"), ("tensor", "left"), ("largest", "right"), ("of FP16's range", "right")),
    *(("overflow", "right"), ("underflow", "right"), ("NaN, inf", "right")),
)


def held_in_fp16(network: Graph) -> set[str]:
    """Names of the tensors of `network` in FP16; both ends of a cast are one tensor, whose name
    may be that of either end where other types are used."""
    half = {name for name, info in network.tensors.items() if info.dtype == "float16"}
    for layer in network.layers:
        if layer.type == "CAST" and half.intersection((*layer.inputs, *layer.outputs)):
            half.update(name for name in (*layer.inputs, *layer.outputs) if name)
    return half


def check_range(rows: Sequence[RangeRow], network: Network, stream: TextIO) -> None:
    """Prints `rows`, and refuses `network` where it holds values in FP16 that do not fit.

    Raises:
        NetworkError: it names the module, and the policy that keeps it in FP32.
    """
    from trtnet.quantization import check_fp16

    if not rows:
        return
    print_ranges(rows, stream)
    half = held_in_fp16(graph.read(network.definition))
    check_fp16(row for row in rows if row.tensor in half)


def print_ranges(rows: Sequence[RangeRow], stream: TextIO) -> None:
    """The worst of `rows`, which come worst first."""
    cells = [
        (row.module, row.tensor, f"{row.amax:.4g}", f"{row.share:.2%}",
         _count(row.overflow, row.overflow_share), _count(row.underflow, row.underflow_share),
         row.nonfinite or "")
        for row in rows[:_SHOWN]
    ]  # fmt: skip
    print("\nwhat FP16 does to the values, worst first", file=stream)
    table(_COLUMNS, cells, stream)
    if len(rows) > _SHOWN:
        print(f"... and {len(rows) - _SHOWN} more tensors", file=stream)


def as_json(rows: Sequence[RangeRow]) -> list[dict[str, Any]]:
    """`rows` for the report."""
    return [{**dataclasses.asdict(row), "modules": list(row.modules)} for row in rows]


def _count(number: int, share: float) -> str:
    return f"{number:,} ({share:.2%})" if number else ""
