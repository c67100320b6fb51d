"""HGNetV2, the backbone of D-FINE, with the parameters' names of transformers.

PP-HGNetV2 of PaddleClas, https://github.com/PaddlePaddle/PaddleClas; there is no paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.nn import functional as F

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


@dataclass(frozen=True)
class Widths:
    """Sizes of an HGNetV2.

    Attributes:
        stem: channels within it, and behind it.
        middle, out: channels of the stages: within, and behind.
        blocks: of the stages.
        layers: of a block.
        affine: whether a scale and a shift follow each ReLU.
    """

    stem: tuple[int, int]
    middle: tuple[int, ...]
    out: tuple[int, ...]
    blocks: tuple[int, ...]
    layers: int
    affine: bool


_LIGHT, _KERNELS = (False, False, True, True), (3, 3, 5, 5)


class LearnableAffineBlock(nn.Module):
    """One scale and one shift."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter.empty((1,)), nn.Parameter.empty((1,))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias


class ConvLayer(nn.Module):
    """A convolution, BatchNorm, and unless `relu` is false ReLU and with `affine` a scale."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
        affine: bool = False,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2,
                                     groups=groups, bias=False)  # fmt: skip
        self.normalization = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU() if relu else nn.Identity()
        self.lab = LearnableAffineBlock() if relu and affine else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.lab(self.activation(self.normalization(self.convolution(x))))


class ConvLayerLight(nn.Module):
    """A 1×1 convolution and a depthwise one."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, affine: bool) -> None:
        super().__init__()
        self.conv1 = ConvLayer(in_channels, out_channels, 1, relu=False)
        self.conv2 = ConvLayer(out_channels, out_channels, kernel, groups=out_channels,
                               affine=affine)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Embeddings(nn.Module):
    """Convolutions on two ways: a quarter of the image's edges."""

    def __init__(self, channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        half = channels // 2
        self.stem1 = ConvLayer(3, channels, 3, 2, affine=affine)
        self.stem2a = ConvLayer(channels, half, 2, affine=affine)
        self.stem2b = ConvLayer(half, channels, 2, affine=affine)
        self.stem3 = ConvLayer(channels * 2, channels, 3, 2, affine=affine)
        self.stem4 = ConvLayer(channels, out_channels, 1, affine=affine)
        self.pool = nn.MaxPool2d(2, 1, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.stem1(x), (0, 1, 0, 1))
        other = self.stem2b(F.pad(self.stem2a(x), (0, 1, 0, 1)))
        return self.stem4(self.stem3(ops.cat([self.pool(x), other], 1)))


class BasicLayer(nn.Module):
    """Convolutions whose results are all joined; the input may be added."""

    def __init__(
        self,
        in_channels: int,
        middle: int,
        out_channels: int,
        layers: int,
        kernel: int,
        light: bool,
        residual: bool,
        affine: bool,
    ) -> None:
        super().__init__()

        def layer(channels: int) -> nn.Module:
            if light:
                return ConvLayerLight(channels, middle, kernel, affine)
            return ConvLayer(channels, middle, kernel, affine=affine)

        widths = [in_channels, *[middle] * (layers - 1)]
        self.layers = nn.ModuleList([layer(width) for width in widths])
        total, half = in_channels + layers * middle, out_channels // 2
        self.aggregation = nn.Sequential(
            ConvLayer(total, half, 1, affine=affine),
            ConvLayer(half, out_channels, 1, affine=affine),
        )
        self.drop_path = nn.Identity()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(found[-1]))
        y = self.aggregation(ops.cat(found, 1))
        return self.drop_path(y) + x if self.residual else y


class Stage(nn.Module):
    """Blocks, before which the image may be halved."""

    def __init__(self, number: int, widths: Widths) -> None:
        super().__init__()
        in_channels = widths.out[number - 1] if number else widths.stem[1]
        self.downsample = nn.Identity() if number == 0 else ConvLayer(
            in_channels, in_channels, 3, 2, groups=in_channels, relu=False
        )  # fmt: skip
        out = widths.out[number]
        self.blocks = nn.ModuleList([
            BasicLayer(out if i else in_channels, widths.middle[number], out, widths.layers,
                       _KERNELS[number], _LIGHT[number], i > 0, widths.affine)
            for i in range(widths.blocks[number])
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Encoder(nn.Module):
    """Four stages: the last's features, and what each of them takes and gives."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.stages = nn.ModuleList([Stage(i, widths) for i in range(len(widths.out))])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        found = [x]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found[-1], found


class HGNetV2(nn.Module):
    """Features of an image (B, 3, H, W), of the last `levels` stages: at a 32nd of its edges those
    of the last, and twice as large those of each before it."""

    def __init__(self, widths: Widths, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.embedder = Embeddings(*widths.stem, widths.affine)
        self.encoder = Encoder(widths)

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        _, features = self.encoder(self.embedder(x))
        return features[-self.levels :]
