"""How tools/detector_heads.py scales last layers: their statistics afterwards."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn


class Two(nn.Module):
    """What the second layer gives depends on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return y, self.linear(y.flatten(2).transpose(1, 2).relu())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def statistics(model: Any, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Means and deviations of the channels of both layers."""
    with torch.no_grad():
        conv, linear = model(images)
    parts = (conv.transpose(0, 1).flatten(1), linear.flatten(0, 1).T)
    return [(part.mean(1), part.std(1)) for part in parts]


def test_layers_are_settled_in_turn(detector_heads: ModuleType, images: torch.Tensor) -> None:
    model = Two()
    means = torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0])
    wanted = {model.conv: (0.5, 2.0), model.linear: (lambda _: means, 1.5)}
    detector_heads.settle_in_turn(model, images, wanted)
    conv, linear = statistics(model, images)
    torch.testing.assert_close(conv, (torch.full((4,), 0.5), torch.full((4,), 2.0)))
    torch.testing.assert_close(linear, (means, torch.full((5,), 1.5)))


def test_channels_are_settled_one_by_one(detector_heads: ModuleType, images: torch.Tensor) -> None:
    model = Two()
    spread = torch.tensor([0.1, 0.2, 0.3, 0.4])
    detector_heads.settle_channels(model, images, [model.conv], 0.5, lambda count: spread[:count])
    conv, _ = statistics(model, images)
    torch.testing.assert_close(conv, (torch.full((4,), 0.5), spread))
