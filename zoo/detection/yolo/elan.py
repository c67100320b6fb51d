"""Blocks of YOLOv7 and YOLOv9, under the parameters' names of MultimediaTechLab's release.

ELAN (Wang et al., https://arxiv.org/abs/2211.04800), convolutions of two branches (Ding et al.,
https://arxiv.org/abs/2101.03697).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.zoo.detection.yolo.blocks import Conv

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class RepConv(nn.Module):
    """A 3×3 and a 1×1 convolution, which are added, and SiLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.act = nn.SiLU()
        self.conv1 = Conv(in_channels, out_channels, 3, act=False)
        self.conv2 = Conv(in_channels, out_channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv1(x) + self.conv2(x))


class RepBottleneck(nn.Module):
    """A :class:`RepConv` and a 3×3 convolution, to which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = RepConv(channels, channels)
        self.conv2 = Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class RepNCSP(nn.Module):
    """`count` bottlenecks on one half of the channels, beside the other half."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = Conv(channels, half)
        self.conv2 = Conv(channels, half)
        self.conv3 = Conv(2 * half, channels)
        self.bottleneck = nn.Sequential(*(RepBottleneck(half) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(ops.cat([self.bottleneck(self.conv1(x)), self.conv2(x)], 1))


class ELAN(nn.Module):
    """A 1×1 convolution, whose second half goes through two stages; and one of both halves and of
    what each stage gives.

    Args:
        part: channels of both halves.
        count: bottlenecks of a stage; 0 for a convolution in place of bottlenecks.
    """

    def __init__(self, in_channels: int, out_channels: int, part: int, count: int = 0) -> None:
        super().__init__()
        half = part // 2

        def stage() -> nn.Module:
            conv = Conv(half, half, 3)
            return nn.Sequential(RepNCSP(half, count), conv) if count else conv

        self.conv1 = Conv(in_channels, part)
        self.conv2 = stage()
        self.conv3 = stage()
        self.conv4 = Conv(part + 2 * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(ops.chunk(self.conv1(x), 2, 1))
        parts.append(self.conv2(parts[-1]))
        parts.append(self.conv3(parts[-1]))
        return self.conv4(ops.cat(parts, 1))


class AConv(nn.Module):
    """Halves height and width: means of 2×2 cells, and a convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.avg_pool = nn.AvgPool2d(2, 1)
        self.conv = Conv(in_channels, out_channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.avg_pool(x))


class ADown(nn.Module):
    """Halves height and width: means of 2×2 cells, a convolution of the first half of the channels,
    and the largest values of the second half."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.avg_pool = nn.AvgPool2d(2, 1)
        self.max_pool = nn.MaxPool2d(3, 2, 1)
        self.conv1 = Conv(in_channels // 2, out_channels // 2, 3, 2)
        self.conv2 = Conv(in_channels // 2, out_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = ops.chunk(self.avg_pool(x), 2, 1)
        return ops.cat([self.conv1(first), self.conv2(self.max_pool(second))], 1)


class SPPELAN(nn.Module):
    """The largest values around each cell, at three distances, beside the cell's own."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = Conv(in_channels, half)
        self.pools = nn.ModuleList([nn.MaxPool2d(5, 1, 2) for _ in range(3)])
        self.conv5 = Conv(4 * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.conv1(x)]
        for pool in self.pools:
            parts.append(pool(parts[-1]))
        return self.conv5(ops.cat(parts, 1))


class SPPCSPConv(nn.Module):
    """The largest values around each cell, in three steps, beside the cell's own."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pre_conv = nn.Sequential(Conv(in_channels, out_channels),
                                      Conv(out_channels, out_channels, 3),
                                      Conv(out_channels, out_channels))  # fmt: skip
        self.short_conv = Conv(in_channels, out_channels)
        self.pools = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13)])
        self.post_conv = nn.Sequential(
            Conv(4 * out_channels, out_channels), Conv(out_channels, out_channels, 3)
        )
        self.merge_conv = Conv(2 * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.pre_conv(x)]
        for pool in self.pools:
            parts.append(pool(parts[-1]))
        deep = self.post_conv(ops.cat(parts, 1))
        return self.merge_conv(ops.cat([deep, self.short_conv(x)], 1))
