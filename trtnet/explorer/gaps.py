"""The largest gaps in words: where a network takes longer than its products alone would."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trtnet.errors import UsageError
from trtnet.explorer.costs import known_gpus
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.graph import Cost, Gpu

_MOST = 10


def gaps(
    cost: Cost, tree: ModuleTree, measured: Mapping[str, float], gpu: Gpu
) -> dict[str, list[dict[str, Any]]]:
    """For each GPU that has all ceilings of the network, the kernels with the largest gaps, the
    largest first: between what was measured and the bound, where something was measured, on the
    GPU `gpu`; otherwise between the memory traffic and the products.

    Args:
        cost: of the network.
        tree: of its modules.
        measured: least seconds by name of a layer; empty where nothing was measured.
        gpu: what `measured` is held against.
    """
    found = {}
    for key, each in known_gpus(gpu).items():
        try:
            found[key] = _on(each, cost, tree)
        except UsageError:  # a precision that the GPU, or its table, lacks
            continue
    if measured:
        found[gpu.key] = _above_bound(gpu, cost, tree, measured)
    return found


def _above_bound(
    gpu: Gpu, cost: Cost, tree: ModuleTree, measured: Mapping[str, float]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, (layer, limit) in enumerate(zip(cost.layers, cost.bound(gpu).layers, strict=True)):
        times = [measured[name] for name in (layer.name, *layer.fused) if name in measured]
        gap = sum(times) - limit.seconds
        if times and gap > 0:
            ratio = f"{sum(times) / limit.seconds:.1f} times" if limit.seconds else "beyond"
            text = (
                f"{layer.name} took at least {1e6 * sum(times):.2f} µs, {ratio} its bound of "
                f"{1e6 * limit.seconds:.2f} µs on {gpu.name}, which {limit.limit} limits"
            )
            rows.append({"text": text, "kernel": i, "module": tree.row(module_of(layer.name)),
                         "seconds": gap})  # fmt: skip
    return sorted(rows, key=lambda row: row["seconds"], reverse=True)[:_MOST]


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
