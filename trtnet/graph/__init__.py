"""Reads a TensorRT network back into plain data, says what it costs, and what is wrong with it."""

from trtnet.graph.archive import dumps, load, loads, save
from trtnet.graph.cost import Bound, Cost, LayerBound, LayerCost, cost
from trtnet.graph.counting import macs
from trtnet.graph.diff import Diff, Difference, diff
from trtnet.graph.gpus import Gpu, find_gpu, gpus
from trtnet.graph.lint import Finding, explain, lint
from trtnet.graph.reader import read
from trtnet.graph.types import Graph, Layer, TensorInfo, parameters

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
