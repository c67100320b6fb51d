"""SqueezeNet, in torchvision's form.

Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters,
https://arxiv.org/abs/1602.07360. Version 1.1 is from https://github.com/forresti/SqueezeNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

# (squeezed channels, channels of each expansion) of every Fire module, in both versions.
_FIRES = (
    *((16, 64), (16, 64), (32, 128), (32, 128)),
    *((48, 192), (48, 192), (64, 256), (64, 256)),
)


class Fire(nn.Module):
    """Squeezes (1×1), then expands by a 1×1 and a 3×3 convolution side by side."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        small = self.expand1x1_activation(self.expand1x1(x))
        return ops.cat([small, self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """Input (N, 3, H, W), at least 21×21, 224×224 in the paper; output (N, num_classes), logits.

    Args:
        stem: output channels and kernel size of the first convolution.
        pooled_before: the Fire modules, counted from 0, that a pooling precedes.
    """

    def __init__(
        self, stem: tuple[int, int], pooled_before: Sequence[int], num_classes: int = 1000
    ) -> None:
        super().__init__()
        channels, kernel_size = stem
        layers: list[nn.Module] = [nn.Conv2d(3, channels, kernel_size, stride=2), nn.ReLU()]
        for index, (squeezed, expanded) in enumerate(_FIRES):
            if index in pooled_before:
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            layers.append(Fire(channels, squeezed, expanded))
            channels = 2 * expanded
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(channels, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


@register(torchvision=True)
def squeezenet1_0(num_classes: int = 1000) -> SqueezeNet:
    """SqueezeNet 1.0, that of the paper (Iandola et al., https://arxiv.org/abs/1602.07360)."""
    return SqueezeNet((96, 7), (0, 3, 7), num_classes)


@register(torchvision=True)
def squeezenet1_1(num_classes: int = 1000) -> SqueezeNet:
    """SqueezeNet 1.1: earlier pooling, 2.4 times less arithmetic.

    Iandola et al., https://arxiv.org/abs/1602.07360.
    """
    return SqueezeNet((64, 3), (0, 2, 4), num_classes)
