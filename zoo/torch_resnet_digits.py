"""The ResNet of :mod:`trtnet.zoo.resnet_digits` in PyTorch, of torchvision's blocks."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock


class DigitsResNet(nn.Module):
    """Input (N, 1, 32, 32), values 0 to 1; output (N, num_classes), logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, depth=2, stride=1)
        self.layer2 = _stage(16, 32, depth=2, stride=2)
        self.layer3 = _stage(32, 64, depth=2, stride=2)
        self.layer4 = _stage(64, 128, depth=3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(in_channels: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
        )
    first = BasicBlock(in_channels, planes, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(planes, planes) for _ in range(depth - 1)))
