"""Layers that the DETR detectors share, with the parameters' names of transformers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.detection import deformable_attention
from trtnet.detection.deformable import checked_sampling
from trtnet.dtypes import float32
from trtnet.nn import functional as F

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

Sizes = Sequence[tuple[int, int]]


class SelfAttention(nn.Module):
    """Attention of (B, N, C) to itself; queries and keys are the input and its position."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.o_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        placed = x + position.to(x.dtype)
        return attended(self, self.q_proj(placed), self.k_proj(placed), self.v_proj(x))


def attended(module: SelfAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The output (B, N, C) of an attention whose projections these are."""
    batch, _, channels = query.shape

    def by_head(x: Tensor) -> Tensor:
        return x.reshape(batch, x.shape[1], module.heads, channels // module.heads).transpose(1, 2)

    found = F.scaled_dot_product_attention(by_head(query), by_head(key), by_head(value))
    return module.o_proj(found.transpose(1, 2).reshape(batch, query.shape[1], channels))


class MLP(nn.Module):
    """Two linear layers."""

    def __init__(self, channels: int, hidden: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.activation_fn = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))


class PredictionHead(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, count: int) -> None:
        super().__init__()
        sizes = [in_channels, *[hidden] * (count - 1), out_channels]
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in itertools.pairwise(sizes)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DeformableReading(nn.Module):
    """What queries read at a few places around reference boxes, in several feature maps.

    Places and the softmax of the weights are float32 whatever the policy.

    Args:
        points: how many places a head reads in each map.
        sampling: how they are read.
    """

    def __init__(self, channels: int, heads: int, points: Sequence[int], sampling: str) -> None:
        super().__init__()
        self.heads, self.points = heads, tuple(points)
        self.sampling = checked_sampling(sampling)
        total = heads * sum(points)
        self.sampling_offsets = nn.Linear(channels, total * 2)
        self.attention_weights = nn.Linear(channels, total)

    def forward(self, x: Tensor, memory: Tensor, sizes: Sizes, boxes: Tensor) -> Tensor:
        """
        Args:
            x: (B, Q, C), with their positions.
            memory: (B, N, C), the pixels of all maps.
            boxes: (B, Q, 4) float32: centre, width and height, in images.
        """
        batch, count, channels = x.shape
        total = sum(self.points)
        value = memory.reshape(batch, memory.shape[1], self.heads, channels // self.heads)
        offsets = self.sampling_offsets(x).to(float32)
        offsets = offsets.reshape(batch, count, self.heads, total, 2)
        weights = self.attention_weights(x).to(float32)
        weights = F.softmax(weights.reshape(batch, count, self.heads, total), -1)
        box = boxes.reshape(batch, count, 1, 1, 4)
        places = box[..., :2] + offsets * self.reach(box[..., 2:])
        return self.read(value, sizes, places, weights)

    def reach(self, sides: Tensor) -> Tensor:
        """How far an offset of 1 goes: half a side of the box, shared among a map's points."""
        return shared(sides, np.repeat([1 / count for count in self.points], self.points))

    def read(self, value: Tensor, sizes: Sizes, places: Tensor, weights: Tensor) -> Tensor:
        """See :func:`trtnet.detection.deformable_attention`."""
        return deformable_attention(value, sizes, self.points, places, weights, self.sampling)


def shared(sides: Tensor, shares: Any) -> Tensor:
    """Half of `sides` (..., 1, 2) times the share of each of P points, (..., P, 2)."""
    return sides * sides.new_tensor(shares).reshape(1, 1, 1, -1, 1) * 0.5


class DeformableAttention(DeformableReading):
    """The same with a projection of the pixels, and of what is read."""

    def __init__(self, channels: int, heads: int, points: Sequence[int], sampling: str) -> None:
        super().__init__(channels, heads, points, sampling)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, memory: Tensor, sizes: Sizes, boxes: Tensor) -> Tensor:
        return self.output_proj(super().forward(x, self.value_proj(memory), sizes, boxes))


class Sampling(nn.Module):
    """What queries read, which is a module of its own in some detectors."""

    def forward(
        self, read: Callable[..., Tensor], value: Tensor, sizes: Sizes, *others: Tensor
    ) -> Tensor:
        return read(value, sizes, *others)


class SampledAttention(DeformableAttention):
    """Deformable attention as transformers has it in RT-DETR's first version and in RF-DETR."""

    def __init__(self, channels: int, heads: int, points: Sequence[int], sampling: str) -> None:
        super().__init__(channels, heads, points, sampling)
        self.attn = Sampling()

    def read(self, value: Tensor, sizes: Sizes, places: Tensor, weights: Tensor) -> Tensor:
        return self.attn(super().read, value, sizes, places, weights)


class DecoderLayer(nn.Module):
    """Queries (B, Q, C) attend to each other and to the image.

    Args:
        attention: to the image.
    """

    def __init__(self, channels: int, hidden: int, heads: int, attention: nn.Module) -> None:
        super().__init__()
        self.self_attn = SelfAttention(channels, heads)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.encoder_attn = attention
        self.encoder_attn_layer_norm = nn.LayerNorm(channels)
        self.mlp = MLP(channels, hidden, nn.ReLU)
        self.final_layer_norm = nn.LayerNorm(channels)

    def forward(
        self, x: Tensor, position: Tensor, memory: Tensor, sizes: Sizes, boxes: Tensor
    ) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, position))
        read = self.encoder_attn(x + position.to(x.dtype), memory, sizes, boxes)
        x = self.encoder_attn_layer_norm(x + read)
        return self.final_layer_norm(x + self.mlp(x))


def inverse_sigmoid(x: Tensor) -> Tensor:
    """The logits of probabilities, which are kept 1e-5 away from 0 and 1."""
    return ops.log(x.clamp(min=1e-5) / (1.0 - x).clamp(min=1e-5))
