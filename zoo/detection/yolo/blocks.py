"""Blocks that the YOLO lines share, under the parameters' names of public checkpoints.

CSP (Wang et al., https://arxiv.org/abs/1911.11929), spatial pyramid pooling (He et al.,
https://arxiv.org/abs/1406.4729) and attention beside a convolution of positions (Wang et al.,
https://arxiv.org/abs/2405.14458).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

EPS = 1e-3  # of every BatchNorm
_HEAD = 64  # channels of a head of attention
_POOLED = 5  # edge of the square whose largest value is taken
KERNELS = (3, 3)
"""Edges of the two convolutions of a bottleneck."""


class Conv(nn.Module):
    """A convolution that keeps the image's size but for its stride, BatchNorm and SiLU.

    Args:
        act: whether SiLU follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1,
        groups: int = 1, act: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2,
                              groups=groups, bias=False)  # fmt: skip
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=EPS)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))

    def fuse(self) -> None:
        """Makes the convolution one with a bias in place of BatchNorm, as in checkpoints whose
        BatchNorms were folded."""
        old = self.conv
        self.conv = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride,
                              old.padding, groups=old.groups)  # fmt: skip
        self.bn = nn.Identity()


def fuse(module: nn.Module) -> None:
    """Makes every :class:`Conv` in `module` one whose BatchNorm was folded."""
    for part in [*module.modules()]:
        if isinstance(part, Conv):
            part.fuse()


def depthwise(channels: int, kernel: int) -> Conv:
    """A convolution of each channel by itself."""
    return Conv(channels, channels, kernel, groups=channels)


class Bottleneck(nn.Module):
    """Two convolutions, whose input may be added to the result.

    Args:
        hidden: channels between them.
        kernels: edges of their kernels.
    """

    def __init__(
        self, channels: int, hidden: int, shortcut: bool, kernels: Sequence[int] = KERNELS
    ) -> None:
        super().__init__()
        self.cv1 = Conv(channels, hidden, kernels[0])
        self.cv2 = Conv(hidden, channels, kernels[1])
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class Split(nn.Module):
    """A 1×1 convolution, whose second half goes through blocks, one after the other; and one of
    both halves and of what each block gives.

    Args:
        hidden: channels of one half, and of each block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int, blocks: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.cv1 = Conv(in_channels, 2 * hidden)
        self.cv2 = Conv((2 + len(blocks)) * hidden, out_channels)
        self.m = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(ops.chunk(self.cv1(x), 2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(ops.cat(parts, 1))


class C2f(Split):
    """:class:`Split` with `count` bottlenecks that are as wide as its halves."""

    def __init__(self, in_channels: int, out_channels: int, count: int, shortcut: bool) -> None:
        half = out_channels // 2
        blocks = [Bottleneck(half, half, shortcut) for _ in range(count)]
        super().__init__(in_channels, out_channels, half, blocks)


class C3k(nn.Module):
    """`count` bottlenecks on one half of the channels, beside the other half."""

    def __init__(self, channels: int, count: int = 2) -> None:
        super().__init__()
        half = channels // 2
        self.cv1 = Conv(channels, half)
        self.cv2 = Conv(channels, half)
        self.cv3 = Conv(2 * half, channels)
        self.m = nn.Sequential(*(Bottleneck(half, half, True) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(ops.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class C3k2(Split):
    """:class:`Split` with `count` blocks.

    Args:
        nested: whether a block is a :class:`C3k`; else a bottleneck, half as wide inside.
        ratio: channels of a half over `out_channels`.
        attention: whether a block is a bottleneck and a :class:`PSABlock`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, count: int, nested: bool, ratio: float = 0.5,
        attention: bool = False,
    ) -> None:  # fmt: skip
        half = int(out_channels * ratio)

        def block() -> nn.Module:
            if attention:
                return nn.Sequential(Bottleneck(half, half // 2, True), PSABlock(half))
            return C3k(half) if nested else Bottleneck(half, half // 2, True)

        super().__init__(in_channels, out_channels, half, [block() for _ in range(count)])


class SPPF(nn.Module):
    """The largest values around each cell, at three distances, beside the cell's own.

    Args:
        shortcut: whether the input is added.
    """

    def __init__(self, in_channels: int, out_channels: int, shortcut: bool = False) -> None:
        super().__init__()
        half = in_channels // 2
        self.cv1 = Conv(in_channels, half)
        self.cv2 = Conv(4 * half, out_channels)
        self.m = nn.MaxPool2d(_POOLED, 1, _POOLED // 2)
        self.shortcut = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.m(parts[-1]))
        y = self.cv2(ops.cat(parts, 1))
        return x + y if self.shortcut else y


class Attention(nn.Module):
    """Self-attention of the cells, whose positions a depthwise convolution of the values adds.

    Queries and keys have half as many channels as values. The channels of `qkv` are those of one
    head after the other: its queries, keys and values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // _HEAD, 1)
        self.values = channels // self.heads
        self.keys = self.values // 2
        self.qkv = Conv(channels, self.heads * (2 * self.keys + self.values), act=False)
        self.proj = Conv(channels, channels, act=False)
        self.pe = Conv(channels, channels, 3, groups=channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        each = self.qkv(x).reshape(batch, self.heads, 2 * self.keys + self.values, -1)
        query, key, value = ops.split(each, [self.keys, self.keys, self.values], 2)
        weight = ops.softmax(query.transpose(2, 3) @ key * self.keys**-0.5, -1)
        seen = value @ weight.transpose(2, 3)
        seen = seen.reshape(batch, channels, height, width)
        return self.proj(seen + self.pe(value.reshape(batch, channels, height, width)))


class PSABlock(nn.Module):
    """Attention, then two 1×1 convolutions; both add their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = Attention(channels)
        self.ffn = nn.Sequential(
            Conv(channels, 2 * channels), Conv(2 * channels, channels, act=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ffn(x)


class C2PSA(nn.Module):
    """`count` blocks of attention on the second half of the channels, beside the first half."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        half = channels // 2
        self.cv1 = Conv(channels, 2 * half)
        self.cv2 = Conv(2 * half, channels)
        self.m = nn.Sequential(*(PSABlock(half) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        kept, other = ops.chunk(self.cv1(x), 2, 1)
        return self.cv2(ops.cat([kept, self.m(other)], 1))


class Concat(nn.Module):
    """All channels of several features of one size."""

    def forward(self, *features: Tensor) -> Tensor:
        return ops.cat(list(features), 1)
