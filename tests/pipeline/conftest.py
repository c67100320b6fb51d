"""A model of trtnet alone, as an address gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from trtnet import nn, zoo
from trtnet.nn import functional as F
from trtnet.tensor import Tensor
from trtnet.zoo import Entry

ADDRESS = "models/tiny.py:Tiny"
IMAGE = (3, 16, 16)


class Tiny(nn.Module):
    """A classifier of 16×16 images with every kind of layer that random weights distinguish."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)
        self.norm = nn.GroupNorm(2, 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        x = F.relu(self.norm(self.up(x)))
        return self.fc(self.pool(x).flatten(1))


@dataclass(frozen=True)
class TrtnetEntry(Entry):
    """An entry without a PyTorch counterpart."""

    def has_counterpart(self, **kwargs: Any) -> bool:
        return False


@pytest.fixture
def addressed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes :data:`ADDRESS` a model; gives the address."""
    known = zoo.get_entry

    def add(builder: Callable[..., nn.Module] = Tiny, image: Any = IMAGE) -> str:
        entry = TrtnetEntry("Tiny", builder, image)
        found = {ADDRESS: entry}
        monkeypatch.setattr(zoo, "get_entry", lambda text: found.get(text) or known(text))
        return ADDRESS

    return add
