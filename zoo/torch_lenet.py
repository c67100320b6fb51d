"""LeNet-5 in PyTorch: what :mod:`trtnet.zoo.lenet` is trained with and compared to."""

from __future__ import annotations

import torch
from torch import nn


class LeNet5(nn.Module):
    """Input (N, 1, 32, 32), values 0 to 1; output (N, num_classes), logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.tanh = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.s2(self.tanh(self.c1(x)))
        x = self.s4(self.tanh(self.c3(x)))
        x = self.tanh(self.c5(x)).flatten(1)
        return self.output(self.tanh(self.f6(x)))
