"""Networks as plain data: read back from TensorRT, stored, checked, costed and compared.

The names of :mod:`trtnet.analysis` are imported on first use: that room needs the reference and
the plugins, which themselves need this one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from trtnet.graph.archive import dumps, load, loads, save
from trtnet.graph.gpus import Gpu, find_gpu, gpus
from trtnet.graph.lint import Finding, explain, lint
from trtnet.graph.reader import read
from trtnet.graph.types import Graph, Layer, TensorInfo, parameters

if TYPE_CHECKING:
    from trtnet.analysis import (
        Bound,
        Cost,
        Diff,
        Difference,
        LayerBound,
        LayerCost,
        cost,
        diff,
        macs,
    )

__all__ = [
    "Bound",
    "Cost",
    "Diff",
    "Difference",
    "Finding",
    "Gpu",
    "Graph",
    "Layer",
    "LayerBound",
    "LayerCost",
    "TensorInfo",
    "cost",
    "diff",
    "dumps",
    "explain",
    "find_gpu",
    "gpus",
    "lint",
    "load",
    "loads",
    "macs",
    "parameters",
    "read",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'trtnet.graph' has no attribute {name!r}")
    return getattr(importlib.import_module("trtnet.analysis"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
