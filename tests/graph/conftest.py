"""`define`: a network that is filled layer by layer and linted."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trtnet import graph
from trtnet.graph import Graph


class Definition:
    """Adds named layers to a network, and lints it."""

    def __init__(self, raw: Any, trt: ModuleType) -> None:
        self.raw, self.trt = raw, trt

    def input(self, name: str, *shape: int, dtype: str = "float32") -> Any:
        return self.raw.add_input(name, getattr(self.trt, dtype), shape)

    def add(self, name: str, layer: Any) -> Any:
        layer.name = name
        tensor = layer.get_output(0)
        tensor.name = f"{name}:0"
        return tensor

    def constant(self, name: str, array: Any) -> Any:
        array = np.asarray(array)
        return self.add(name, self.raw.add_constant(array.shape, array))

    def cast(self, name: str, x: Any, dtype: str) -> Any:
        return self.add(name, self.raw.add_cast(x, getattr(self.trt, dtype)))

    def relu(self, name: str, x: Any) -> Any:
        return self.add(name, self.raw.add_activation(x, self.trt.ActivationType.RELU))

    def sum(self, name: str, a: Any, b: Any) -> Any:
        return self.add(name, self.raw.add_elementwise(a, b, self.trt.ElementWiseOperation.SUM))

    def qdq(self, name: str, x: Any) -> Any:
        scale = self.constant(f"{name}.scale", np.array(0.1, np.float32))
        q = self.add(f"{name}.q", self.raw.add_quantize(x, scale, self.trt.int8))
        return self.add(f"{name}.dq", self.raw.add_dequantize(q, scale, x.dtype))

    def conv(self, name: str, x: Any, channels: int, size: int = 1, groups: int = 1) -> Any:
        shape = (channels, x.shape[1] // groups, size, size)
        kernel = np.full(shape, 0.1, self.trt.nptype(x.dtype))
        layer = self.raw.add_convolution_nd(
            x, channels, (size, size), kernel, self.trt.Weights(x.dtype)
        )
        layer.num_groups = groups
        return self.add(name, layer)

    def quantized_conv(self, name: str, x: Any, channels: int, size: int = 1) -> Any:
        """A convolution of a value that is quantized already, or of a network input."""
        kernel = self.constant(
            f"{name}.kernel", np.full((channels, x.shape[1], size, size), 0.1, np.float32)
        )
        empty = self.trt.Weights(self.trt.float32)
        layer = self.raw.add_convolution_nd(x, channels, (size, size), empty, empty)
        layer.set_input(1, self.qdq(f"{name}.kernel", kernel))
        return self.add(name, layer)

    def read(self, *outputs: Any) -> Graph:
        for tensor in outputs:
            self.raw.mark_output(tensor)
        return graph.read(self.raw)

    def lint(self, *outputs: Any) -> list[tuple[str, str]]:
        return [(found.code, found.layer) for found in graph.lint(self.read(*outputs))]


@pytest.fixture
def define(raw: Any, trt: ModuleType) -> Definition:
    return Definition(raw, trt)
