"""Bare TensorRT networks, made with ``add_*`` calls and run through reader and reference."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trtnet import backend, graph, reference


class Raw:
    """One network; arrays given to `input` are what it runs on."""

    def __init__(self, loaded: backend.Backend) -> None:
        self.trt: ModuleType = loaded.trt
        self._builder, self._loaded = loaded.builder(), loaded
        self.net: Any = loaded.create_network(self._builder)
        self.values: dict[str, np.ndarray] = {}
        self.held: list[np.ndarray] = []

    def input(self, array: np.ndarray, dynamic: tuple[int, ...] = ()) -> Any:
        """An input of `array`'s type and shape, the axes `dynamic` unknown."""
        name = f"x{len(self.values)}"
        self.values[name] = array
        shape = [-1 if axis in dynamic else n for axis, n in enumerate(array.shape)]
        types = {"float32": "FLOAT", "float16": "HALF", "bool": "BOOL"}
        dtype = getattr(self.trt.DataType, types.get(array.dtype.name, array.dtype.name.upper()))
        return self.net.add_input(name, dtype, shape)

    def const(self, values: Any, dtype: Any = np.float32) -> Any:
        array = np.asarray(values, dtype=dtype)
        self.held.append(array)
        weights = np.ascontiguousarray(array).reshape(-1)
        return self.net.add_constant(array.shape, weights).get_output(0)

    def bfloat16(self, values: np.ndarray) -> Any:
        """``trt.Weights`` of the upper halves of float32 `values`."""
        bits = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        self.held.append(bits)
        return self.trt.Weights(self.trt.bfloat16, bits.ctypes.data, bits.size)

    def builds(self) -> bool:
        """Whether TensorRT itself accepts the network."""
        config = self._builder.create_builder_config()
        built = self._builder.build_serialized_network(self.net, config) is not None
        self._loaded.clear_errors()
        return built

    def run(self, layer: Any, float64: bool = False) -> list[np.ndarray]:
        """All outputs of `layer`, checked against the shapes and types TensorRT states."""
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        for output in outputs:
            self.net.mark_output(output)
        read = graph.read(self.net)
        results = reference.run(read, self.values, float64=float64)
        for output in outputs:
            result, info = results[output.name], read.tensors[output.name]
            assert result.ndim == len(info.shape)
            assert all(n in (-1, m) for n, m in zip(info.shape, result.shape, strict=True))
            if not info.dtype.startswith("float") and info.dtype != "bfloat16":
                assert result.dtype.name == info.dtype
            elif info.dtype in ("float32", "float16"):
                assert result.dtype.name == ("float64" if float64 else info.dtype)
        return [results[output.name] for output in outputs]


@pytest.fixture(scope="session")
def rtx() -> backend.Backend:
    return backend.load("rtx")


@pytest.fixture
def raw(rtx: backend.Backend) -> Raw:
    return Raw(rtx)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
