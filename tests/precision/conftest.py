"""A residual network, random weights, and networks calibrated on the input they are tested with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import graph, nn, reference
from trtnet.graph import Graph, Layer
from trtnet.graph.edges import Edges
from trtnet.quantization import CalibrationTable


class Block(nn.Module):
    """conv, BatchNorm, ReLU, conv, BatchNorm, plus a shortcut, ReLU."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(
                nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)
            )

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Residual(nn.Module):
    """Two blocks, the second with a convolution in its shortcut, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2 = Block(8, 8), Block(8, 16, 2)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 8)

    def forward(self, x: Any) -> Any:
        return self.fc(self.pool(self.block2(self.block1(x))).flatten(1))


def filled(model: Any, seed: int = 0) -> Any:
    """`model` with seeded weights; variances are positive."""
    random = np.random.default_rng(seed)
    for name, slot in [*model.named_parameters(), *model.named_buffers()]:
        values = random.standard_normal(slot.shape) / max(np.prod(slot.shape[1:]), 1) ** 0.5
        slot.array = (np.abs(values) + 0.5 if name.endswith("running_var") else values).astype(
            np.float32
        )
    return model


def table(ranges: Mapping[str, float], weights_sha256: str = "0" * 64) -> CalibrationTable:
    return CalibrationTable(ranges, "minmax", weights_sha256)


class Defined:
    """A network with the input ``x`` and the output ``y``, and what it really holds."""

    def __init__(self, model: Any, shape: tuple[Any, ...], **options: Any) -> None:
        self.network = trtnet.Network("rtx", **options)
        self.network.output("y", model(self.network.input("x", shape)))
        self.graph: Graph = graph.read(self.network.definition)
        self.edges = Edges(self.graph)

    def count(self, *types: str) -> int:
        found = Counter(layer.type for layer in self.graph.layers)
        return sum(found[name] for name in types)

    def layers(self, *types: str) -> list[Layer]:
        return [layer for layer in self.graph.layers if layer.type in types]

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.graph.layers if layer.name == name)

    def dtype(self, name: str | None) -> str:
        return self.graph.tensors[name or ""].dtype

    def is_dequantized(self, name: str | None) -> bool:
        maker = self.edges.producers.get(name or "")
        return maker is not None and maker.type == "DEQUANTIZE"

    def count_constants(self, layer: Layer) -> int:
        """How many operands of a product come from constants, quantized or not."""
        makers = [self.edges.origin(name, frozenset({"DEQUANTIZE"})) for name in layer.inputs]
        return sum(maker is not None and maker.type == "CONSTANT" for maker in makers)

    def quantized_from(self, name: str | None) -> str | None:
        """The tensor whose Q/DQ pair gives `name`."""
        assert self.is_dequantized(name)
        codes = self.edges.producers[self.edges.producers[name or ""].inputs[0] or ""]
        assert codes.type == "QUANTIZE"
        return codes.inputs[0]

    def run(self, x: np.ndarray, **options: Any) -> np.ndarray:
        return reference.run(self.graph, {"x": x}, **options)["y"]

    def lint(self) -> list[str]:
        return [str(finding) for finding in graph.lint(self.graph) if finding.code != "P001"]


def calibrate(
    model: Any, x: np.ndarray, shape: tuple[Any, ...] | None = None, **options: Any
) -> Any:
    """The network `options` describe, with min-max ranges over `x`."""
    observing = Defined(model, shape or x.shape, **options)
    names = observing.network.observed
    values = reference.run(observing.graph, {"x": x}, outputs=names)
    largest = {name: float(np.abs(value).max()) for name, value in values.items()}
    known = table(largest, observing.network.weights_sha256)
    made = Defined(model, shape or x.shape, calibration=known, **options)
    assert made.network.observed == names
    return made


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, 8, 8, 8)).astype(np.float32)


@pytest.fixture
def residual() -> Residual:
    return filled(Residual())


@pytest.fixture
def fill() -> Callable[..., Any]:
    return filled


@pytest.fixture
def define() -> type[Defined]:
    return Defined


@pytest.fixture
def calibrated() -> Callable[..., Defined]:
    return calibrate


@pytest.fixture
def ranges() -> Callable[..., CalibrationTable]:
    """Makes a calibration table out of tensor names and largest magnitudes."""
    return table
