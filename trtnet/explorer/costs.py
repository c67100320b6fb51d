"""What a page needs to compute costs and roofline bounds itself, equal to ``trtnet cost``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from trtnet.explorer.columns import repeated
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.graph import Cost, Gpu, Graph, gpus

CASTS = ("CAST",)
QUANTIZERS = ("QUANTIZE", "DEQUANTIZE")


def known_gpus(chosen: Gpu) -> dict[str, Gpu]:
    """Every GPU of the table, and `chosen`, which may be of a file of ceilings, by key."""
    return {**gpus(), chosen.key: chosen}


def gpu_figures(known: Iterable[Gpu]) -> list[dict[str, Any]]:
    """Bytes and operations per second of the GPUs `known`."""
    return [
        {
            "key": gpu.key,
            "name": gpu.name,
            "bandwidth": gpu.bandwidth,
            "flops": dict(gpu.flops),
            "source": gpu.source,
        }
        for gpu in known
    ]


def variant(
    key: str, label: str, precision: str | None, graph: Graph, cost: Cost, tree: ModuleTree
) -> dict[str, Any]:
    """The kernels of one network: what their products and their memory traffic are.

    Args:
        key: names the variant.
        label: in words.
        precision: of its policy; ``None`` where that is not known.
        graph: the network.
        cost: of `graph`.
        tree: of its modules.
    """
    types = Counter(layer.type for layer in graph.layers)
    layers = cost.layers
    return {
        "key": key,
        "label": label,
        "precision": precision,
        "layers": len(graph.layers),
        "casts": sum(types[name] for name in CASTS),
        "qdq": sum(types[name] for name in QUANTIZERS),
        "kernels": {
            "layer": [layer.name for layer in layers],
            "module": [tree.row(module_of(layer.name)) for layer in layers],
            "type": repeated(layer.type for layer in layers),
            "precision": repeated(layer.precision for layer in layers),
            "macs": [layer.macs for layer in layers],
            "parameters": [layer.parameters for layer in layers],
            "read": [layer.bytes_read for layer in layers],
            "written": [layer.bytes_written for layer in layers],
            "fused": [list(layer.fused) for layer in layers],
        },
    }


def kernel_numbers(cost: Cost) -> dict[str, int]:
    """The number of the kernel that each layer is part of, by the layer's name."""
    return {
        name: number
        for number, layer in enumerate(cost.layers)
        for name in (layer.name, *layer.fused)
    }


def call_paths(graphs: Sequence[Graph]) -> list[str]:
    """Paths of all module calls that layers of `graphs` name, in their order."""
    return list(dict.fromkeys(module_of(layer.name) for graph in graphs for layer in graph.layers))
