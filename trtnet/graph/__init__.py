"""Reads a TensorRT network back into plain data, and says what it costs."""

from trtnet.graph.cost import macs
from trtnet.graph.reader import read
from trtnet.graph.types import Graph, Layer, TensorInfo, parameters

__all__ = ["Graph", "Layer", "TensorInfo", "macs", "parameters", "read"]
