"""DenseNet-BC, in torchvision's form.

Huang et al., Densely Connected Convolutional Networks, https://arxiv.org/abs/1608.06993.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.nn import functional as F
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_BOTTLENECK = 4  # channels between a layer's two convolutions, in units of the growth rate


class _DenseLayer(nn.Module):
    """Makes `growth_rate` further channels from all channels before it."""

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        hidden = _BOTTLENECK * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden, growth_rate, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(ops.cat(features, 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class _DenseBlock(nn.ModuleDict):
    def __init__(self, in_channels: int, depth: int, growth_rate: int) -> None:
        super().__init__()
        for index in range(depth):
            layer = _DenseLayer(in_channels + index * growth_rate, growth_rate)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return ops.cat(features, 1)


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        {
            "norm": nn.BatchNorm2d(in_channels),
            "relu": nn.ReLU(),
            "conv": nn.Conv2d(in_channels, out_channels, 1, bias=False),
            "pool": nn.AvgPool2d(2, stride=2),
        }
    )


class DenseNet(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Args:
        growth_rate: channels that each layer adds.
        depths: number of layers in each of the four dense blocks.
        init_features: channels of the first convolution.
    """

    def __init__(
        self,
        growth_rate: int,
        depths: Sequence[int],
        init_features: int,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            {
                "conv0": nn.Conv2d(3, init_features, 7, stride=2, padding=3, bias=False),
                "norm0": nn.BatchNorm2d(init_features),
                "relu0": nn.ReLU(),
                "pool0": nn.MaxPool2d(3, stride=2, padding=1),
            }
        )
        channels = init_features
        for number, depth in enumerate(depths, 1):
            block = _DenseBlock(channels, depth, growth_rate)
            self.features.add_module(f"denseblock{number}", block)
            channels += depth * growth_rate
            if number < len(depths):
                self.features.add_module(
                    f"transition{number}", _transition(channels, channels // 2)
                )
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


@register(torchvision=True)
def densenet121(num_classes: int = 1000) -> DenseNet:
    """DenseNet-121 (Huang et al., https://arxiv.org/abs/1608.06993)."""
    return DenseNet(32, (6, 12, 24, 16), 64, num_classes)


@register(torchvision=True)
def densenet161(num_classes: int = 1000) -> DenseNet:
    """DenseNet-161, of growth rate 48 (Huang et al., https://arxiv.org/abs/1608.06993)."""
    return DenseNet(48, (6, 12, 36, 24), 96, num_classes)


@register(torchvision=True)
def densenet169(num_classes: int = 1000) -> DenseNet:
    """DenseNet-169 (Huang et al., https://arxiv.org/abs/1608.06993)."""
    return DenseNet(32, (6, 12, 32, 32), 64, num_classes)


@register(torchvision=True)
def densenet201(num_classes: int = 1000) -> DenseNet:
    """DenseNet-201 (Huang et al., https://arxiv.org/abs/1608.06993)."""
    return DenseNet(32, (6, 12, 48, 32), 64, num_classes)
