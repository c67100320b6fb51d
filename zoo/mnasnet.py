"""MNASNet, in torchvision's form: the paper's variant B1, without squeeze and excitation.

Tan et al., MnasNet: Platform-Aware Neural Architecture Search for Mobile,
https://arxiv.org/abs/1807.11626.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.blocks import make_divisible
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_STEM = (32, 16)  # channels of the first convolution and of the first block, at width 1
# (output channels at width 1, kernel size, stride of the first block, expansion, blocks).
_STACKS = (
    (24, 3, 2, 3, 3),
    (40, 5, 2, 3, 3),
    (80, 5, 2, 6, 3),
    (96, 3, 1, 6, 2),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)


class InvertedResidual(nn.Module):
    """Widens by `expansion` (1×1), filters depthwise, narrows linearly (1×1); a shortcut where the
    shape stays."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, kernel_size, stride, padding=kernel_size // 2,
                      groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )  # fmt: skip
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.has_shortcut else self.layers(x)


def _stack(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int, blocks: int
) -> nn.Sequential:
    """`blocks` inverted residuals, the first of them with `stride`."""
    first = InvertedResidual(in_channels, out_channels, kernel_size, stride, expansion)
    rest = (
        InvertedResidual(out_channels, out_channels, kernel_size, 1, expansion)
        for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *rest)


class MNASNet(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Args:
        alpha: the width: factor of all channels but the last 1280.
    """

    def __init__(self, alpha: float, num_classes: int = 1000) -> None:
        super().__init__()
        stem, channels = (make_divisible(width * alpha) for width in _STEM)
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(),
            nn.Conv2d(stem, stem, 3, padding=1, groups=stem, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(),
            nn.Conv2d(stem, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        for width, *stack in _STACKS:
            out_channels = make_divisible(width * alpha)
            layers.append(_stack(channels, out_channels, *stack))
            channels = out_channels
        layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))


@register(torchvision=True)
def mnasnet0_5(num_classes: int = 1000) -> MNASNet:
    """MNASNet of width 0.5 (Tan et al., https://arxiv.org/abs/1807.11626)."""
    return MNASNet(0.5, num_classes)


@register(torchvision=True)
def mnasnet0_75(num_classes: int = 1000) -> MNASNet:
    """MNASNet of width 0.75 (Tan et al., https://arxiv.org/abs/1807.11626)."""
    return MNASNet(0.75, num_classes)


@register(torchvision=True)
def mnasnet1_0(num_classes: int = 1000) -> MNASNet:
    """MNASNet of width 1.0 (Tan et al., https://arxiv.org/abs/1807.11626)."""
    return MNASNet(1.0, num_classes)


@register(torchvision=True)
def mnasnet1_3(num_classes: int = 1000) -> MNASNet:
    """MNASNet of width 1.3 (Tan et al., https://arxiv.org/abs/1807.11626)."""
    return MNASNet(1.3, num_classes)
