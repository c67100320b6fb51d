"""Small networks to search in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import trtnet
from trtnet import nn, zoo
from trtnet.nn import functional as F
from trtnet.pipeline import load_weights
from trtnet.quantization import CalibrationTable
from trtnet.search import Data, MixableNetwork

BATCH = 8
Define = Callable[[trtnet.Policy, "CalibrationTable | None"], trtnet.Network]


class Residual(nn.Module):
    """A projected and a plain shortcut, a global average and a head: every placement of Q/DQ."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 1, stride=2)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.conv2(F.relu(self.conv1(x))) + self.down(x))
        x = F.relu(self.conv3(x) + x)
        return self.fc(self.pool(x).flatten(1))


def definer(model: nn.Module, shape: tuple[int, ...]) -> Define:
    """Fills a network of `model` for inputs of `shape`."""

    def define(policy: trtnet.Policy, calibration: CalibrationTable | None) -> trtnet.Network:
        network = trtnet.Network("rtx", policy, calibration=calibration)
        network.output("logits", model(network.input("input", shape)))
        return network

    return define


def in_batches(images: np.ndarray, labels: np.ndarray | None = None) -> Data:
    starts = range(0, len(images), BATCH)
    answers = None if labels is None else tuple(labels[i : i + BATCH] for i in starts)
    return Data(tuple({"input": images[i : i + BATCH]} for i in starts), answers)


@pytest.fixture(scope="session")
def residual_define() -> Define:
    random = np.random.default_rng(3)
    model = Residual()
    for _, parameter in model.named_parameters():
        fan_in = np.prod(parameter.shape[1:]) if len(parameter.shape) > 1 else 100
        scale = np.float32((2 / fan_in) ** 0.5)
        parameter.data = random.standard_normal(parameter.shape, np.float32) * scale
    return definer(model, (BATCH, 3, 16, 16))


@pytest.fixture(scope="session")
def residual_data() -> Data:
    random = np.random.default_rng(4)
    return in_batches(random.standard_normal((16, 3, 16, 16), np.float32))


@pytest.fixture(scope="session")
def residual(residual_define: Define, residual_data: Data) -> MixableNetwork:
    return MixableNetwork(residual_define).calibrated(residual_data)


@pytest.fixture(scope="session")
def lenet_data() -> Data:
    """Digits of scikit-learn, enlarged as those LeNet was trained on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.kron(found.images[:104], np.ones((4, 4)))[:, None].astype(np.float32) / 16
    return in_batches(images, found.target[:104].astype(np.int64))


@pytest.fixture(scope="session")
def lenet(lenet_data: Data) -> MixableNetwork:
    entry = zoo.get_entry("lenet5")
    model = entry.build()
    model.load_state_dict(load_weights(entry, None, 0, {}))
    return MixableNetwork(definer(model, (BATCH, 1, 32, 32))).calibrated(lenet_data)
