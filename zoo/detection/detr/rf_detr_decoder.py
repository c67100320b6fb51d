"""The decoder of RF-DETR: queries that look around boxes, which one step refines at the end.

Robinson et al., https://arxiv.org/abs/2511.09554; its decoder is that of Chen et al., LW-DETR: A
Transformer Replacement to YOLO for Real-Time Detection, https://arxiv.org/abs/2406.03459. Boxes
and their waves are float32 whatever the policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trtnet import nn, ops
from trtnet.detection.distances import halves
from trtnet.dtypes import float32
from trtnet.zoo.detection.detr.layers import (
    MLP,
    PredictionHead,
    SampledAttention,
    SelfAttention,
    Sizes,
)

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

CHANNELS, HIDDEN = 256, 2048
HEADS, READING_HEADS, POINTS = 8, 16, 2  # of attention to each other, and to the image
_TEMPERATURE = 10000.0


class ResidualMLP(MLP):
    """Two linear layers beside a shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class DecoderLayer(nn.Module):
    """Queries (B, Q, C) attend to each other and to the image."""

    def __init__(self, sampling: str) -> None:
        super().__init__()
        self.self_attn = SelfAttention(CHANNELS, HEADS)
        self.activation_fn = nn.ReLU()  # transformers has it here too, unused
        self.self_attn_layer_norm = nn.LayerNorm(CHANNELS)
        self.cross_attn = SampledAttention(CHANNELS, READING_HEADS, (POINTS,), sampling)
        self.cross_attn_layer_norm = nn.LayerNorm(CHANNELS)
        self.mlp = ResidualMLP(CHANNELS, HIDDEN, nn.ReLU)
        self.layer_norm = nn.LayerNorm(CHANNELS)

    def forward(
        self, x: Tensor, position: Tensor, memory: Tensor, sizes: Sizes, boxes: Tensor
    ) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, position))
        read = self.cross_attn(x + position.to(x.dtype), memory, sizes, boxes)
        x = self.cross_attn_layer_norm(x + read)
        return self.layer_norm(self.mlp(x))


class Decoder(nn.Module):
    """Layers whose queries all look around the same boxes."""

    def __init__(self, layers: int, sampling: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(sampling) for _ in range(layers)])
        self.layernorm = nn.LayerNorm(CHANNELS)
        self.ref_point_head = PredictionHead(2 * CHANNELS, CHANNELS, CHANNELS, 2)

    def forward(self, queries: Tensor, memory: Tensor, sizes: Sizes, boxes: Tensor) -> Tensor:
        position = self.ref_point_head(waves(boxes))
        for layer in self.layers:
            queries = layer(queries, position, memory, sizes, boxes)
        return self.layernorm(queries)


def waves(boxes: Tensor) -> Tensor:
    """Sines and cosines (B, Q, 2·C) float32 of boxes (B, Q, 4): of y, x, width and height."""
    batch, count, _ = boxes.shape
    rates = _TEMPERATURE ** (np.arange(0, CHANNELS // 2, 2) / (CHANNELS // 2))
    x, y, width, height = boxes.unbind(-1)
    angles = ops.stack([y, x, width, height], -1).unsqueeze(-1)
    angles = angles * boxes.network.constant((2 * np.pi / rates).astype(np.float32))
    return ops.stack([ops.sin(angles), ops.cos(angles)], -1).reshape(batch, count, 2 * CHANNELS)


def refined(boxes: Tensor, changes: Tensor) -> Tensor:
    """Boxes (…, 4) float32, centre, width and height, moved by shares of their sides and scaled by
    exponentials, as `changes` (…, 4) say."""
    centre, sides = halves(boxes)
    moves, scales = halves(changes.to(float32))
    return ops.cat([centre + moves * sides, ops.exp(scales) * sides], -1)
