"""Plans to serve, and a double of the module that Triton's Python backend has in its server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import trtnet


class Tensor:
    """Of a request or a response; ``on_gpu`` ones are read and made by DLPack alone."""

    def __init__(self, name: str, array: Any, on_gpu: bool = False) -> None:
        self.name, self.array, self.on_gpu = name, array, on_gpu

    @classmethod
    def from_dlpack(cls, name: str, array: Any) -> Tensor:
        return cls(name, array, on_gpu=True)

    def is_cpu(self) -> bool:
        return not self.on_gpu

    def as_numpy(self) -> np.ndarray:
        assert not self.on_gpu
        return np.asarray(self.array)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Request:
    """One that asks for the outputs `asked`."""

    def __init__(self, asked: list[str], **arrays: Any) -> None:
        self.asked = asked
        self.tensors = {
            name: array if isinstance(array, Tensor) else Tensor(name, array)
            for name, array in arrays.items()
        }

    def requested_output_names(self) -> list[str]:
        return self.asked


class Response:
    """Tensors, or an error."""

    def __init__(self, tensors: Any = (), error: Any = None) -> None:
        self.arrays = {tensor.name: tensor.array for tensor in tensors}
        self.error = error


class MetricFamily:
    """Counters by their labels."""

    COUNTER = "counter"
    values: dict[tuple[str, str], float]

    def __init__(self, name: str, description: str, kind: str) -> None:
        assert kind == self.COUNTER
        assert description
        self.name = name

    def Metric(self, labels: dict[str, str]) -> MetricFamily:  # noqa: N802  # Triton's name
        one = MetricFamily(self.name, "of labels", self.COUNTER)
        one.key = (self.name, labels.get("le") or labels.get("kind") or "")
        return one

    def increment(self, value: float) -> None:
        self.values[self.key] = self.values.get(self.key, 0) + value


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``triton_python_backend_utils``."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse, module.TritonError = Tensor, Response, str
    module.MetricFamily = type("MetricFamily", (MetricFamily,), {"values": {}})
    module.MetricFamily.values = MetricFamily.values = {}
    module.get_input_tensor_by_name = lambda request, name: request.tensors[name]
    module.Request = Request
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def plan() -> Callable[..., trtnet.Plan]:
    """A network of images (N, 3, 8, 8) with the mean of each channel as scores."""

    def make(batches: tuple[int, int] = (1, 8), **sidecar: Any) -> trtnet.Plan:
        net = trtnet.Network(backend="torch")
        batch = "N" if batches[0] != batches[1] else batches[0]
        net.output("scores", net.input("input", (batch, 3, 8, 8)).mean((2, 3)))
        low, high = ((size, 3, 8, 8) for size in batches)
        about = {"model": "means", "class_names": ["red", "green", "blue"],
                 "preprocessing": {"resize_size": [8, 8]}, **sidecar}  # fmt: skip
        shapes = {"input": trtnet.Shapes(low, high, high)} if batch == "N" else None
        return trtnet.build(net, shapes, sidecar=about)

    return make
