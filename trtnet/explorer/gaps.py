"""The largest gaps in words: where a network takes longer than its products alone would."""

from __future__ import annotations

import math
from typing import Any

from trtnet.errors import UsageError
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.graph import Cost, Gpu, gpus

_MOST = 10


def gaps(cost: Cost, tree: ModuleTree) -> dict[str, list[dict[str, Any]]]:
    """For each GPU that has all ceilings of the network, the kernels whose memory traffic takes
    longest beyond their products, the largest first.

    Args:
        cost: of the network.
        tree: of its modules.
    """
    found = {}
    for key, gpu in gpus().items():
        try:
            found[key] = _on(gpu, cost, tree)
        except UsageError:  # a precision that the GPU, or its table, lacks
            continue
    return found


def _on(gpu: Gpu, cost: Cost, tree: ModuleTree) -> list[dict[str, Any]]:
    bound = cost.bound(gpu)
    total = bound.seconds
    lost = [max(0.0, layer.memory - layer.compute) for layer in bound.layers]
    order = sorted(range(len(lost)), key=lambda i: -lost[i])[:_MOST]
    rows = []
    for i in order:
        if lost[i] <= 0:
            break
        layer, limit = cost.layers[i], bound.layers[i]
        share = limit.seconds / total if total else math.nan
        moved = layer.bytes_read + layer.bytes_written
        products = (
            f"its products alone would take {1e6 * limit.compute:.2f} µs"
            if layer.precision
            else "it has no products"
        )
        rows.append(
            {
                "text": f"{layer.name} takes at least {1e6 * limit.seconds:.2f} µs, "
                f"{share:.1%} of the network, to move {moved / 1e6:,.2f} MB; {products}",
                "kernel": i,
                "module": tree.row(module_of(layer.name)),
                "seconds": lost[i],
            }
        )
    return rows
