"""ResNet-D, the backbone of RT-DETR, with the parameters' names of transformers.

He et al., Bag of Tricks for Image Classification, https://arxiv.org/abs/1812.01187: three 3×3
convolutions in front, and a shortcut that halves the image by averaging.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class ConvLayer(nn.Module):
    """A convolution that keeps the image's size but for its stride, BatchNorm and ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2,
                                     bias=False)  # fmt: skip
        self.normalization = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.normalization(self.convolution(x)))


class ShortCut(nn.Module):
    """A 1×1 convolution and BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.normalization(self.convolution(x))


class Block(nn.Module):
    """Two 3×3 convolutions, or with `bottleneck` one between two 1×1, and a shortcut.

    Args:
        is_first: of its stage; then the shortcut has a convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, bottleneck: bool, is_first: bool
    ) -> None:
        super().__init__()
        averages = stride == 2 if bottleneck else in_channels != out_channels
        if averages and is_first:
            halved = nn.AvgPool2d(2, 2, 0, ceil_mode=True)
            shortcut: nn.Module = nn.Sequential(halved, ShortCut(in_channels, out_channels))
        else:
            shortcut = ShortCut(in_channels, out_channels, stride) if is_first else nn.Identity()
        self.shortcut = shortcut
        if bottleneck:
            hidden = out_channels // 4
            layers = [ConvLayer(in_channels, hidden, 1), ConvLayer(hidden, hidden, 3, stride),
                      ConvLayer(hidden, out_channels, 1, relu=False)]  # fmt: skip
        else:
            layers = [ConvLayer(in_channels, out_channels, 3, stride),
                      ConvLayer(out_channels, out_channels, 3, relu=False)]  # fmt: skip
        self.layer = nn.Sequential(*layers)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x) + self.shortcut(x))


class Stage(nn.Module):
    """Several blocks, of which the first may halve the image."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, depth: int, bottleneck: bool
    ) -> None:
        super().__init__()
        first = Block(in_channels, out_channels, stride, bottleneck, is_first=True)
        others = (Block(out_channels, out_channels, 1, bottleneck, False) for _ in range(depth - 1))
        self.layers = nn.Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Embeddings(nn.Module):
    """Three convolutions and a pooling: a quarter of the image's edges."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.embedder = nn.Sequential(
            ConvLayer(3, half, 3, 2), ConvLayer(half, half, 3), ConvLayer(half, channels, 3)
        )
        self.pooler = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pooler(self.embedder(x))


class Encoder(nn.Module):
    """Four stages: the last's features, and what each of them takes and gives."""

    def __init__(
        self, depths: Sequence[int], stem: int, widths: Sequence[int], bottleneck: bool
    ) -> None:
        super().__init__()
        stages, channels = [], stem
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            stages.append(Stage(channels, width, 2 if number else 1, depth, bottleneck))
            channels = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        found = [x]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found[-1], found


class ResNetVd(nn.Module):
    """Features of an image (B, 3, H, W) at an eighth, a sixteenth and a 32nd of its edges.

    Args:
        depths: blocks of the four stages.
        stem: channels before the first of them.
        widths: channels of the stages.
        bottleneck: whether blocks have three convolutions.
    """

    def __init__(
        self, depths: Sequence[int], stem: int, widths: Sequence[int], bottleneck: bool
    ) -> None:
        super().__init__()
        self.embedder = Embeddings(stem)
        self.encoder = Encoder(depths, stem, widths, bottleneck)

    def forward(self, x: Tensor) -> list[Tensor]:
        _, features = self.encoder(self.embedder(x))
        return features[2:]
