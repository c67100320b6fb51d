"""Analyses of a graph that need the size of every tensor: cost, roofline bound, comparison.

Users reach these names as ``trtnet.graph.cost``, ``trtnet.graph.macs`` and ``trtnet.graph.diff``.
"""

from __future__ import annotations

from trtnet.analysis.attribution import ATTRIBUTIONS, Share, attribute
from trtnet.analysis.comparing import Diff, Difference, diff
from trtnet.analysis.costing import Bound, Cost, LayerBound, LayerCost, PartCost, cost
from trtnet.analysis.counting import macs

__all__ = [
    "ATTRIBUTIONS",
    "Bound",
    "Cost",
    "Diff",
    "Difference",
    "LayerBound",
    "LayerCost",
    "PartCost",
    "Share",
    "attribute",
    "cost",
    "diff",
    "macs",
]
