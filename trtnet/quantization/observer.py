"""Observers: modules that count a tensor's values while the network runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from trtnet.graph.types import Graph
from trtnet.quantization.histogram import BINS, ROWS, SHIFT, Histogram
from trtnet.reference.compiler import compile

_FEW = 1 << 17  # values, up to which sorting them takes less time than going over all bins


class Observer(nn.Module):
    """Counts the values of the tensors it is called with into `histogram`."""

    def __init__(self, histogram: Histogram) -> None:
        super().__init__()
        self.histogram = histogram

    def forward(self, x: Tensor) -> None:
        """Counts the values of `x`."""
        values = x.float().reshape(-1)
        if not values.numel():
            return
        bins = (values.view(torch.int32) >> SHIFT).add_(ROWS * BINS // 2)
        found, counts = _counted(bins)
        self.histogram.add(found.cpu().numpy(), counts.cpu().numpy(), _largest(values))


def _counted(bins: Tensor) -> tuple[Tensor, Tensor]:
    """The different numbers in `bins`, rising, and how often each occurs."""
    if bins.numel() < _FEW:
        found, counts = torch.unique(bins, return_counts=True)
        return found, counts
    counts = torch.bincount(bins, minlength=ROWS * BINS)
    (found,) = counts.nonzero(as_tuple=True)
    return found, counts[found]


def _largest(values: Tensor) -> float:
    """The largest finite magnitude, 0 if there is none."""
    low, high = torch.aminmax(values)
    found = max(-float(low), float(high))
    if math.isfinite(found) and math.isfinite(float(low)):
        return found
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def observed(graph: Graph, histograms: Mapping[str, Histogram], device: str) -> fx.GraphModule:
    """`graph` with an observer after each tensor of `histograms`. It returns nothing, so each value
    is freed after its last use."""
    module = compile(graph, device=device, outputs=tuple(histograms))
    output = module.graph.output_node()
    nodes: Any = output.args[0]  # a dict from tensor name to node
    for i, (name, node) in enumerate(nodes.items()):
        module.add_submodule(f"observer_{i}", Observer(histograms[name]))
        with module.graph.inserting_after(node):
            module.graph.call_module(f"observer_{i}", (node,))
    output.args = ({},)
    module.recompile()
    return module
