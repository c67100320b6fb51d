"""ShuffleNetV2, in torchvision's form.

Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design,
https://arxiv.org/abs/1807.11164.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.zoo.blocks import Conv2dNormActivation
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_STEM = 24  # channels of the first convolution
_DEPTHS = (4, 8, 4)  # blocks in each stage: table 5 of the paper


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deals the channels out: those of `groups` blocks in turn, the first of each first."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class InvertedResidual(nn.Module):
    """Works on half of the channels and passes the other half by; with a stride of 2, works on
    all of them in two ways. Then the halves are shuffled."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = out_channels // 2
        self.branch1 = nn.Sequential() if stride == 1 else nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels,
                      bias=False),
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )  # fmt: skip
        self.branch2 = nn.Sequential(
            nn.Conv2d(half if stride == 1 else in_channels, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, stride, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            passed, worked = x.chunk(2, 1)
            halves = [passed, self.branch2(worked)]
        else:
            halves = [self.branch1(x), self.branch2(x)]
        return channel_shuffle(ops.cat(halves, 1), 2)


def _stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    rest = (InvertedResidual(out_channels, out_channels, 1) for _ in range(depth - 1))
    return nn.Sequential(InvertedResidual(in_channels, out_channels, 2), *rest)


class ShuffleNetV2(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Args:
        widths: channels of each of the three stages.
        last_width: channels before the classifier.
    """

    def __init__(self, widths: Sequence[int], last_width: int, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = Conv2dNormActivation(3, _STEM, 3, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = _stage(_STEM, widths[0], _DEPTHS[0])
        self.stage3 = _stage(widths[0], widths[1], _DEPTHS[1])
        self.stage4 = _stage(widths[1], widths[2], _DEPTHS[2])
        self.conv5 = Conv2dNormActivation(widths[2], last_width, 1)
        self.fc = nn.Linear(last_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.maxpool(self.conv1(x)))
        x = self.conv5(self.stage4(self.stage3(x)))
        return self.fc(x.mean((2, 3)))


@register(torchvision=True)
def shufflenet_v2_x0_5(num_classes: int = 1000) -> ShuffleNetV2:
    """ShuffleNetV2 of width 0.5 (Ma et al., https://arxiv.org/abs/1807.11164)."""
    return ShuffleNetV2((48, 96, 192), 1024, num_classes)


@register(torchvision=True)
def shufflenet_v2_x1_0(num_classes: int = 1000) -> ShuffleNetV2:
    """ShuffleNetV2 of width 1.0 (Ma et al., https://arxiv.org/abs/1807.11164)."""
    return ShuffleNetV2((116, 232, 464), 1024, num_classes)


@register(torchvision=True)
def shufflenet_v2_x1_5(num_classes: int = 1000) -> ShuffleNetV2:
    """ShuffleNetV2 of width 1.5 (Ma et al., https://arxiv.org/abs/1807.11164)."""
    return ShuffleNetV2((176, 352, 704), 1024, num_classes)


@register(torchvision=True)
def shufflenet_v2_x2_0(num_classes: int = 1000) -> ShuffleNetV2:
    """ShuffleNetV2 of width 2.0 (Ma et al., https://arxiv.org/abs/1807.11164)."""
    return ShuffleNetV2((244, 488, 976), 2048, num_classes)
