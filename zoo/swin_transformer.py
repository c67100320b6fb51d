"""Swin Transformer and Swin Transformer V2, in torchvision's form.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows,
https://arxiv.org/abs/2103.14030; Liu et al., Swin Transformer V2: Scaling Up Capacity and
Resolution, https://arxiv.org/abs/2111.09883.

Between the first and the last layers tensors are (N, H, W, C).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.errors import ShapeError
from trtnet.nn import functional as F
from trtnet.ops.attention import attention_product, attention_weights
from trtnet.zoo.blocks import MLP, Permute, StochasticDepth
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_PATCH = 4  # height and width of a patch
_MASKED = -100.0  # added to the score of two positions that the shift made neighbours


def relative_position_bias(table: Tensor, index: nn.Parameter, length: int) -> Tensor:
    """What each head adds to the scores of each pair of positions: (1, heads, length, length).

    Args:
        table: (relative positions, heads).
        index: the row of `table` for each pair; ``length * length`` integers.
    """
    picked = table[index].reshape(length, length, table.shape[1])
    return picked.permute(2, 0, 1).unsqueeze(0)


def inverse_sqrt(like: Tensor, number: int) -> Tensor:
    """``1 / sqrt(number)`` next to `like`. The engine computes it, once, when it is built: a
    float32 in the network would be rounded."""
    return like.new_tensor(float(number)).rsqrt()


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: Any) -> Tensor:
    """``F.scaled_dot_product_attention`` with a `bias` that is finite: nothing looks for rows that
    are masked completely."""
    return attention_product(attention_weights(query, key, bias, False, scale), value)


def _shift_mask(height: int, width: int, window: int, shifts: Sequence[int]) -> np.ndarray:
    """(windows, 1, window**2, window**2): ``_MASKED`` for positions of one window that come from
    opposite sides of the image, and 0 for others."""
    regions = np.zeros((height, width), np.int64)
    row_bands, column_bands = (
        (slice(0, -window), slice(-window, -shift), slice(-shift, None)) for shift in shifts
    )
    for number, (rows, columns) in enumerate((r, c) for r in row_bands for c in column_bands):
        regions[rows, columns] = number
    tiles = regions.reshape(height // window, window, width // window, window).swapaxes(1, 2)
    flat = tiles.reshape(-1, 1, window * window)
    return np.where(flat[..., None, :] == flat[..., :, None], 0.0, _MASKED).astype(np.float32)


class ShiftedWindowAttention(nn.Module):
    """Multi-head self-attention inside windows of `window` × `window` positions, on an image
    that is rolled by `shift` both ways. (N, H, W, dim) to the same shape."""

    def __init__(self, dim: int, window: int, shift: int, num_heads: int) -> None:
        super().__init__()
        self.window, self.shift, self.num_heads = window, shift, num_heads
        self.qkv = self._qkv(dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("relative_position_index", nn.Parameter.empty((window**4,)))
        self._add_bias_parameters()

    def _qkv(self, dim: int) -> nn.Linear:
        return nn.Linear(dim, 3 * dim)

    def _add_bias_parameters(self) -> None:
        offsets = 2 * self.window - 1
        self.relative_position_bias_table = nn.Parameter.empty((offsets * offsets, self.num_heads))

    def _bias_table(self, x: Tensor) -> Tensor:
        return x.new_tensor(self.relative_position_bias_table)

    def _bias(self, x: Tensor) -> Tensor:
        """(1, heads, window**2, window**2)"""
        index = self.relative_position_index
        return relative_position_bias(self._bias_table(x), index, self.window**2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        scale: Any = inverse_sqrt(q, q.shape[-1])
        return attend(q, k, v, bias, scale)

    def forward(self, x: Tensor) -> Tensor:
        (n, height, width, channels), window, heads = x.shape, self.window, self.num_heads
        rows, columns = -(-height // window), -(-width // window)
        full_height, full_width, length = rows * window, columns * window, window * window
        # Along an axis with a single window there is nothing to shift.
        shifts = [self.shift if count > 1 else 0 for count in (rows, columns)]

        bias = self._bias(x)
        x = F.pad(x, (0, 0, 0, full_width - width, 0, full_height - height))
        x = ops.roll(x, [-shift for shift in shifts], (1, 2))
        x = x.reshape(n, rows, window, columns, window, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, rows * columns, length, channels)

        qkv = self.qkv(x).reshape(n, rows * columns, length, 3, heads, channels // heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        if any(shifts):
            bias = bias + _shift_mask(full_height, full_width, window, shifts)
        x = self._attend(q, k, v, bias.unsqueeze(0)).permute(0, 1, 3, 2, 4)
        x = self.proj(x.reshape(n, rows * columns, length, channels))

        x = x.reshape(n, rows, columns, window, window, channels).permute(0, 1, 3, 2, 4, 5)
        x = ops.roll(x.reshape(n, full_height, full_width, channels), shifts, (1, 2))
        return x[:, :height, :width]


class _KeysUnbiased(nn.Linear):
    """A projection to queries, keys and values; the keys' bias counts as 0."""

    def forward(self, input: Tensor) -> Tensor:
        bias = np.array(self.bias.require("bias"))
        bias[self.in_features : 2 * self.in_features] = 0
        return F.linear(input, self.weight, bias)


class ShiftedWindowAttentionV2(ShiftedWindowAttention):
    """Scores are cosines times a learned scale, and a small network makes the biases."""

    def _qkv(self, dim: int) -> nn.Linear:
        return _KeysUnbiased(dim, 3 * dim)

    def _add_bias_parameters(self) -> None:
        offsets = 2 * self.window - 1
        self.logit_scale = nn.Parameter.empty((self.num_heads, 1, 1))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, self.num_heads, bias=False)
        )
        self.register_buffer("relative_coords_table", nn.Parameter.empty((1, offsets, offsets, 2)))

    def _bias_table(self, x: Tensor) -> Tensor:
        table = self.cpb_mlp(x.new_tensor(self.relative_coords_table))
        return 16 * table.sigmoid().reshape(-1, self.num_heads)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        scale: Any = q.new_tensor(self.logit_scale).clamp(max=math.log(100.0)).exp()
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return attend(q, k, v, bias, scale)


class SwinTransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each after a LayerNorm and with a shortcut."""

    attention: type[ShiftedWindowAttention] = ShiftedWindowAttention

    def __init__(self, dim: int, num_heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = self.attention(dim, window, shift, num_heads)
        self.stochastic_depth = StochasticDepth()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))


class SwinTransformerBlockV2(SwinTransformerBlock):
    """A :class:`SwinTransformerBlock` with the LayerNorms at the end of the branches."""

    attention = ShiftedWindowAttentionV2

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.norm1(self.attn(x)))
        return x + self.stochastic_depth(self.norm2(self.mlp(x)))


class PatchMerging(nn.Module):
    """Makes one position of each 2×2, with twice the channels. (N, H, W, dim) to
    (N, ceil(H / 2), ceil(W / 2), 2 * dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(_merge_patches(x)))


class PatchMergingV2(nn.Module):
    """A :class:`PatchMerging` that normalizes last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(_merge_patches(x)))


def _merge_patches(x: Tensor) -> Tensor:
    _, height, width, _ = x.shape
    x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
    corners = ((0, 0), (1, 0), (0, 1), (1, 1))
    return ops.cat([x[:, top::2, left::2] for top, left in corners], -1)


class SwinTransformer(nn.Module):
    """Input (N, 3, H, W); output (N, num_classes), logits.

    Args:
        embed_dim: channels in the first stage; they double from stage to stage.
        depths: number of blocks in each stage.
        num_heads: heads in each stage.
        window: height and width of a window, in positions.
        block, merging: the blocks, and what is between the stages.

    Raises:
        ShapeError: when called, H or W is known only at run time.
    """

    def __init__(
        self,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window: int,
        num_classes: int = 1000,
        block: type[SwinTransformerBlock] = SwinTransformerBlock,
        merging: type[PatchMerging] | type[PatchMergingV2] = PatchMerging,
    ) -> None:
        super().__init__()
        embedding = nn.Conv2d(3, embed_dim, _PATCH, stride=_PATCH)
        layers: list[nn.Module] = [
            nn.Sequential(embedding, Permute((0, 2, 3, 1)), nn.LayerNorm(embed_dim))
        ]
        dim = embed_dim
        for index, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            if index:
                layers.append(merging(dim))
                dim *= 2
            shifts = (window // 2 if number % 2 else 0 for number in range(depth))
            layers.append(nn.Sequential(*(block(dim, heads, window, shift) for shift in shifts)))
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(dim)
        self.permute = Permute((0, 3, 1, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if not all(isinstance(size, int) for size in x.shape[2:]):
            raise ShapeError("windows need a fixed image size", got=repr(x),
                             fix="declare fixed sizes in network.input(...); the batch may be "
                             "dynamic")  # fmt: skip
        x = self.permute(self.norm(self.features(x)))
        return self.head(self.flatten(self.avgpool(x)))


_T = (96, (2, 2, 6, 2), (3, 6, 12, 24))
_S = (96, (2, 2, 18, 2), (3, 6, 12, 24))
_B = (128, (2, 2, 18, 2), (4, 8, 16, 32))
_V2 = partial(SwinTransformer, window=8, block=SwinTransformerBlockV2, merging=PatchMergingV2)


@register(torchvision=True)
def swin_t(num_classes: int = 1000) -> SwinTransformer:
    """Swin-T, windows of 7×7 (Liu et al., https://arxiv.org/abs/2103.14030)."""
    return SwinTransformer(*_T, window=7, num_classes=num_classes)


@register(torchvision=True)
def swin_s(num_classes: int = 1000) -> SwinTransformer:
    """Swin-S, windows of 7×7 (Liu et al., https://arxiv.org/abs/2103.14030)."""
    return SwinTransformer(*_S, window=7, num_classes=num_classes)


@register(torchvision=True)
def swin_b(num_classes: int = 1000) -> SwinTransformer:
    """Swin-B, windows of 7×7 (Liu et al., https://arxiv.org/abs/2103.14030)."""
    return SwinTransformer(*_B, window=7, num_classes=num_classes)


@register(torchvision=True, input_shape=(3, 256, 256))
def swin_v2_t(num_classes: int = 1000) -> SwinTransformer:
    """Swin V2-T, windows of 8×8 (Liu et al., https://arxiv.org/abs/2111.09883)."""
    return _V2(*_T, num_classes=num_classes)


@register(torchvision=True, input_shape=(3, 256, 256))
def swin_v2_s(num_classes: int = 1000) -> SwinTransformer:
    """Swin V2-S, windows of 8×8 (Liu et al., https://arxiv.org/abs/2111.09883)."""
    return _V2(*_S, num_classes=num_classes)


@register(torchvision=True, input_shape=(3, 256, 256))
def swin_v2_b(num_classes: int = 1000) -> SwinTransformer:
    """Swin V2-B, windows of 8×8 (Liu et al., https://arxiv.org/abs/2111.09883)."""
    return _V2(*_B, num_classes=num_classes)
