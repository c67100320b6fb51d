"""The encoder of RT-DETR: attention within the smallest features, a pyramid down and up again.

Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, https://arxiv.org/abs/2304.08069,
section 4.2; parameters have the names of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet import nn, ops
from trtnet.nn import functional as F
from trtnet.zoo.detection.detr.layers import SelfAttention

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_TEMPERATURE = 10000.0


class ConvNormLayer(nn.Module):
    """A convolution that keeps the image's size but for its stride, a norm and an activation.

    Args:
        norm: makes the norm of so many channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        activation: Callable[[], nn.Module] = nn.SiLU,
        groups: int = 1,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2,
                              groups=groups, bias=False)  # fmt: skip
        self.norm = norm(out_channels)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class RepVggBlock(nn.Module):
    """A 3×3 and a 1×1 convolution beside each other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormLayer(channels, channels, 3, activation=nn.Identity)
        self.conv2 = ConvNormLayer(channels, channels, 1, activation=nn.Identity)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv1(x) + self.conv2(x))


class CSPRepLayer(nn.Module):
    """`blocks` of them one after the other, beside a 1×1 convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: float = 1.0, blocks: int = 3
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.conv1 = ConvNormLayer(in_channels, hidden, 1)
        self.conv2 = ConvNormLayer(in_channels, hidden, 1)
        self.bottlenecks = nn.Sequential(*(RepVggBlock(hidden) for _ in range(blocks)))
        same = hidden == out_channels
        self.conv3 = nn.Identity() if same else ConvNormLayer(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))


class EncoderLayer(nn.Module):
    """Attention of pixels (B, N, C) to each other, and the linear layers `mlp`."""

    def __init__(self, channels: int, heads: int, mlp: nn.Module) -> None:
        super().__init__()
        self.self_attn = SelfAttention(channels, heads)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.mlp = mlp
        self.final_layer_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, position))
        return self.final_layer_norm(x + self.mlp(x))


class SinePositionEmbedding(nn.Module):
    """Sines and cosines of rows and columns, a constant (1, H·W, C) of the network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        quarter = self.channels // 4
        omega = 1.0 / _TEMPERATURE ** (np.arange(quarter) / quarter)
        row, column = (np.outer(np.arange(size), omega) for size in (height, width))
        waves = np.zeros((height, width, 4, quarter))
        waves[:, :, 0], waves[:, :, 1] = np.sin(row)[:, None], np.cos(row)[:, None]
        waves[:, :, 2], waves[:, :, 3] = np.sin(column)[None], np.cos(column)[None]
        return x.network.constant(waves.reshape(1, -1, self.channels).astype(np.float32))


class AIFILayer(nn.Module):
    """Attention within one feature map (B, C, H, W)."""

    def __init__(self, channels: int, layers: Sequence[EncoderLayer]) -> None:
        super().__init__()
        self.position_embedding = SinePositionEmbedding(channels)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        position = self.position_embedding(x)
        pixels = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            pixels = layer(pixels, position)
        return pixels.transpose(1, 2).reshape(*x.shape)


class HybridEncoder(nn.Module):
    """Features of several strides, the largest first, all of the same number of channels.

    Args:
        levels: how many there are.
        layer: of attention within the smallest features.
        lateral, block, down: make what prepares the features of a level for the next larger one,
            what joins two of them, and what halves them.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        layer: EncoderLayer,
        lateral: Callable[[], nn.Module],
        block: Callable[[], nn.Module],
        down: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.aifi = nn.ModuleList([AIFILayer(channels, [layer])])

        def for_each_step(make: Callable[[], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList([make() for _ in range(levels - 1)])

        self.lateral_convs, self.fpn_blocks = for_each_step(lateral), for_each_step(block)
        self.downsample_convs, self.pan_blocks = for_each_step(down), for_each_step(block)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *larger, smallest = features
        found = [self.aifi[0](smallest)]
        for lateral, block, feature in zip(self.lateral_convs, self.fpn_blocks, reversed(larger),
                                           strict=True):  # fmt: skip
            found[0] = lateral(found[0])
            above = F.interpolate(found[0], scale_factor=2.0, mode="nearest")
            found.insert(0, block(ops.cat([above, feature], 1)))
        result = found[:1]
        for downsample, block, feature in zip(self.downsample_convs, self.pan_blocks, found[1:],
                                              strict=True):  # fmt: skip
            result.append(block(ops.cat([downsample(result[-1]), feature], 1)))
        return result
