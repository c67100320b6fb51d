"""Whether FP16 holds what a network computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import graph
from trtnet.graph import Graph
from trtnet.pipeline.progress import Observer

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.quantization import RangeRow


def held_in_fp16(network: Graph) -> set[str]:
    """Names of the tensors of `network` in FP16; both ends of a cast are one tensor, whose name
    may be that of either end where other types are used."""
    half = {name for name, info in network.tensors.items() if info.dtype == "float16"}
    for layer in network.layers:
        if layer.type == "CAST" and half.intersection((*layer.inputs, *layer.outputs)):
            half.update(name for name in (*layer.inputs, *layer.outputs) if name)
    return half


def check_range(rows: Sequence[RangeRow], network: Network, observer: Observer) -> None:
    """Gives `rows` to `observer`, and refuses `network` where it holds values in FP16 that do not
    fit. Does nothing without rows.

    Raises:
        NetworkError: it names the module, and the policy that keeps it in FP32.
    """
    from trtnet.quantization import check_fp16

    if not rows:
        return
    observer.ranges(rows)
    half = held_in_fp16(graph.read(network.definition))
    check_fp16(row for row in rows if row.tensor in half)
