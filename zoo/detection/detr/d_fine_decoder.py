"""The decoder of D-FINE: each side of a box is a distribution, which every layer refines.

Peng et al., https://arxiv.org/abs/2410.13842, section 4.1. Distributions, distances and boxes are
float32 whatever the policy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet import nn, ops
from trtnet.detection.distances import boxes_around, halves
from trtnet.dtypes import float32
from trtnet.nn import functional as F
from trtnet.zoo.detection.detr.layers import (
    DeformableReading,
    PredictionHead,
    SelfAttention,
    Sizes,
    inverse_sigmoid,
    shared,
)
from trtnet.zoo.detection.detr.outputs import Predictions
from trtnet.zoo.detection.detr.sizes import HEADS, DFineSizing

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

BINS = 32  # between the values of a distribution
_BEST = 4  # values of a distribution that say how sure it is
_LARGEST = 65504.0  # float16's


class FeedForward(nn.Module):
    """Linear layers with an activation between them."""

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        count: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        sizes = [in_channels, *[hidden] * (count - 1), out_channels]
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in itertools.pairwise(sizes)])
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


class Reading(DeformableReading):
    """What queries read; the points' shares of a side are a buffer."""

    def __init__(self, channels: int, heads: int, points: Sequence[int], sampling: str) -> None:
        super().__init__(channels, heads, points, sampling)
        self.register_buffer("num_points_scale", nn.Parameter.empty((sum(points),)))

    def reach(self, sides: Tensor) -> Tensor:
        return shared(sides, self.num_points_scale)


class Gate(nn.Module):
    """A sum of two, each channel weighted by what both say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * channels, 2 * channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        first, second = self.gate(ops.cat([x, y], -1)).sigmoid().chunk(2, -1)
        return self.norm(first * x + second * y)


class DecoderLayer(nn.Module):
    """Queries (B, Q, C) attend to each other and to the image."""

    def __init__(self, channels: int, hidden: int, attention: nn.Module) -> None:
        super().__init__()
        self.self_attn = SelfAttention(channels, HEADS)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.encoder_attn = attention
        self.mlp = FeedForward(channels, hidden, channels, 2)
        self.final_layer_norm = nn.LayerNorm(channels)
        self.gateway = Gate(channels)

    def forward(
        self, x: Tensor, position: Tensor, memory: Tensor, sizes: Sizes, boxes: Tensor
    ) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, position))
        read = self.encoder_attn(x + position.to(x.dtype), memory, sizes, boxes)
        x = self.gateway(x, read)
        return self.final_layer_norm((x + self.mlp(x)).clamp(-_LARGEST, _LARGEST))


class Integral(nn.Module):
    """The expectations (B, Q, 4) of distributions (B, Q, 4·33) over `values`, float32."""

    def forward(self, logits: Tensor, values: Tensor) -> Tensor:
        batch, count, _ = logits.shape
        chances = F.softmax(logits.reshape(batch, count, 4, BINS + 1), -1)
        return (chances * values).sum(-1)


class LQE(nn.Module):
    """Scores, changed by how sure the distributions are."""

    def __init__(self) -> None:
        super().__init__()
        self.reg_conf = FeedForward(4 * (_BEST + 1), 64, 1, 2)

    def forward(self, scores: Tensor, logits: Tensor) -> Tensor:
        batch, count, _ = logits.shape
        chances = F.softmax(logits.reshape(batch, count, 4, BINS + 1), -1)
        best, _ = ops.topk(chances, _BEST, dim=-1)
        best = ops.cat([best, best.mean(-1, keepdim=True)], -1)
        return scores + self.reg_conf(best.reshape(batch, count, 4 * (_BEST + 1)))


class Decoder(nn.Module):
    """Layers that refine the distributions of the sides of boxes, which are fixed behind the first
    of them."""

    def __init__(self, sizing: DFineSizing, num_classes: int, sampling: str) -> None:
        super().__init__()
        channels, count = sizing.queries, sizing.decoder_layers
        self.layers = nn.ModuleList([
            DecoderLayer(channels, sizing.decoder_hidden,
                         Reading(channels, HEADS, sizing.points, sampling))
            for _ in range(count)
        ])  # fmt: skip
        self.query_pos_head = PredictionHead(4, 2 * channels, channels, 2)
        self.reg_scale, self.up = nn.Parameter.empty((1,)), nn.Parameter.empty((1,))
        self.pre_bbox_head = FeedForward(channels, channels, 4, 3)
        self.integral = Integral()
        # All but the last classify in training alone.
        self.lqe_layers = nn.ModuleList([LQE() for _ in range(count)])
        self.class_embed = nn.ModuleList([nn.Linear(channels, num_classes) for _ in range(count)])
        self.bbox_embed = nn.ModuleList(
            [FeedForward(channels, channels, 4 * (BINS + 1), 3) for _ in range(count)]
        )

    def forward(self, queries: Tensor, memory: Tensor, sizes: Sizes, logits: Tensor) -> Predictions:
        values, scale = self._values(queries)
        boxes = first = logits.sigmoid()
        before: Tensor | None = None
        sides: Tensor | None = None
        for layer, head in zip(self.layers, self.bbox_embed, strict=True):
            position = self.query_pos_head(boxes).clamp(-10.0, 10.0)
            queries = layer(queries, position, memory, sizes, boxes)
            if before is None or sides is None:
                shift = self.pre_bbox_head(queries).to(float32)
                first = (shift + inverse_sigmoid(boxes)).sigmoid()
                sides = head(queries).to(float32)
            else:
                sides = head(queries + before).to(float32) + sides
            boxes = _boxes(first, self.integral(sides, values), scale)
            before = queries
        assert sides is not None
        scores = self.class_embed[-1](queries)
        return Predictions(self.lqe_layers[-1](scores, sides), boxes)

    def _values(self, like: Tensor) -> tuple[Tensor, float]:
        """The distances that a distribution is over, (33,) float32, and their unit in shares of the
        box; both are known while the network is defined."""
        path = like.network.path
        given = {"up": self.up, "reg_scale": self.reg_scale}
        up, scale = (float(abs(each.require(f"{path}.{name}")[0])) for name, each in given.items())
        step = (up * scale + 1) ** (2 / (BINS - 2))
        right = [step**i - 1 for i in range(1, BINS // 2)]
        values = [-2 * up * scale, *(-x for x in reversed(right)), 0.0, *right, 2 * up * scale]
        return like.network.constant(np.array(values, np.float32)), scale


def _boxes(boxes: Tensor, distances: Tensor, scale: float) -> Tensor:
    """Boxes (B, Q, 4), centre, width and height, whose sides are moved outward by `distances`, in
    units of the box's sides divided by `scale`."""
    centre, sides = halves(boxes)
    divisor = boxes.network.constant(np.full((1, 1, 1), scale, np.float32))
    unit = ops.cat([sides, sides], -1) / divisor
    near, far = halves(boxes_around(centre, (distances + 0.5 * scale) * unit))
    return ops.cat([(near + far) * 0.5, far - near], -1)
