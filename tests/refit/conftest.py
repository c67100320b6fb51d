"""Networks of several kinds, each defined of any state_dict, and state_dicts for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import BuildConfig, Plan, nn
from trtnet.nn import functional as F
from trtnet.quantization.table import CalibrationTable
from trtnet.weights.places import entries, wanted

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        make: a new module, without values or with any.
        shape: of its input.
        precision: of the network.
        ranges: of its quantized activations, by seed; ``None`` where there are none.
    """

    make: Callable[[], Any]
    shape: tuple[int, ...]
    precision: str = "fp16"

    def state(self, seed: int) -> State:
        """A state_dict of random values that depend on `seed`."""
        module, rng = self.make(), np.random.default_rng(seed)
        held = {key: entry.array for key, entry in entries(module)}
        found: State = {}
        for key, place in wanted(module).items():
            array = held[key]
            if array is not None and array.dtype.kind == "i":
                found[key] = array.copy()  # an index: it is a part of the architecture
            elif key.endswith("num_batches_tracked"):
                found[key] = np.array(seed, np.int64)
            elif key.endswith("running_var"):
                found[key] = rng.uniform(0.5, 1.5, place.shape).astype(np.float32)
            else:
                found[key] = (rng.standard_normal(place.shape) * 0.1).astype(np.float32)
        return found

    def network(self, state: Mapping[str, Any], table: CalibrationTable | None = None) -> Any:
        """The network of `state`."""
        module = self.make()
        module.load_state_dict(dict(state))
        net = trtnet.Network("torch", self.precision, calibration=table)
        result = module(net.input("x", self.shape))
        tensors = result if isinstance(result, Mapping) else {"y": result}
        for name, tensor in tensors.items():
            net.output(name, tensor)
        return net

    def table(self, state: Mapping[str, Any], seed: int) -> CalibrationTable | None:
        """Ranges of the activations, made up; ``None`` where none are needed."""
        net = self.network(state)
        if not net.observed:
            return None
        rng = np.random.default_rng(seed)
        ranges = {name: float(rng.uniform(1, 3)) for name in net.observed}
        return CalibrationTable(ranges, "minmax", net.weights_sha256, self.precision)

    def build(self, state: Mapping[str, Any], seed: int = 0, **options: Any) -> Plan:
        """The plan of `state`, refittable; its ranges are those of `seed`."""
        network = self.network(state, self.table(state, seed))
        return trtnet.build(network, config=BuildConfig(**(options or {"refit": True})))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(x)


class Residual(nn.Module):
    """Two blocks as a ResNet has them, and what is before and behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.convs = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1, bias=i > 1) for i in range(4)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(4)])
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn(self.stem(x)))
        for first in (0, 2):
            y = F.relu(self.bns[first](self.convs[first](x)))
            x = F.relu(self.bns[first + 1](self.convs[first + 1](y)) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _resnet() -> Any:
    return Residual()


def _detector() -> Any:
    return trtnet.zoo.get_model("yolox_nano", num_classes=2, width=0.125, depthwise=False)


def _unet() -> Any:
    return trtnet.zoo.get_model("unet", num_classes=2)


def _vit() -> Any:
    return trtnet.from_torch(torchvision.models.VisionTransformer(16, 4, 2, 2, 16, 32))


def _swin() -> Any:
    model = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3)
    return trtnet.from_torch(model)


def _upward() -> Any:
    spread = torch.nn.ConvTranspose2d(8, 8, 3, stride=2, dilation=2, groups=2)
    return trtnet.from_torch(
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last),
            torch.nn.BatchNorm2d(8),
            torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(8, 8, 1)),
            torch.nn.PReLU(8),
            torch.nn.ConvTranspose2d(8, 8, 2, groups=2),
            torch.nn.BatchNorm2d(8),
            spread,
            torch.nn.InstanceNorm2d(8, affine=True),
        ).eval()
    )


def _narrow() -> Any:
    return trtnet.from_torch(
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(),
                            torch.nn.Linear(8 * 36, 4)).bfloat16().eval()
    )  # fmt: skip


KINDS: Mapping[str, Kind] = {
    "resnet": Kind(_resnet, (1, 3, 32, 32)),
    "detector": Kind(_detector, (1, 3, 64, 64)),
    "vit": Kind(_vit, (2, 3, 16, 16)),
    "swin": Kind(_swin, (1, 3, 32, 32), "fp32"),
    "unet": Kind(_unet, (1, 3, 32, 32), "fp32"),
    "int8": Kind(_resnet, (1, 3, 32, 32), "int8"),
    "int8-weights": Kind(_resnet, (1, 3, 32, 32), "int8-weights"),
    "fp8": Kind(_vit, (1, 3, 16, 16), "fp8"),
    "upward": Kind(_upward, (1, 3, 8, 8)),
    "bfloat16": Kind(_narrow, (1, 3, 8, 8), "bf16"),
}
LINEAR = Kind(Linear, (2, 6), "fp32")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    return KINDS[request.param]


@pytest.fixture
def kinds() -> Mapping[str, Kind]:
    """All kinds, by name."""
    return KINDS


@pytest.fixture
def linear() -> Kind:
    """One linear layer, and one that is not called."""
    return LINEAR
