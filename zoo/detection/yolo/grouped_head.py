"""The head of YOLOv9, under the parameters' names of MultimediaTechLab's release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.detection.distances import boxes_around, expected_distances
from trtnet.nn import functional as F
from trtnet.zoo.detection.yolo.blocks import Conv
from trtnet.zoo.detection.yolo.heads import BINS, STRIDES, Found, centres, rows

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_GROUPS = 4  # one for each side of a box


class Anchor2Vec(nn.Module):
    """Distances (B, N, 4) float32 of (B, N, 4·bins) logits. What the bins stand for is a weight, 0,
    1, … bins-1."""

    def __init__(self) -> None:
        super().__init__()
        self.anc2vec = nn.Conv3d(BINS, 1, 1, bias=False)

    def forward(self, logits: Tensor) -> Tensor:
        return expected_distances(logits, BINS, self.anc2vec.weight.reshape(-1))


class Detection(nn.Module):
    """Of one feature: distances in strides (B, H·W, 4), and logits of classes (B, H·W, classes)."""

    def __init__(self, num_classes: int, first: int, in_channels: int, width: int) -> None:
        super().__init__()
        hidden = max(-(-(first // 4) // _GROUPS) * _GROUPS, 4 * BINS)
        self.anchor_conv = nn.Sequential(
            Conv(in_channels, hidden, 3),
            Conv(hidden, hidden, 3, groups=_GROUPS),
            nn.Conv2d(hidden, 4 * BINS, 1, groups=_GROUPS),
        )
        self.class_conv = nn.Sequential(
            Conv(in_channels, width, 3), Conv(width, width, 3), nn.Conv2d(width, num_classes, 1)
        )
        self.anc2vec = Anchor2Vec()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.anc2vec(rows(self.anchor_conv(x))), rows(self.class_conv(x))


class MultiheadDetection(nn.Module):
    """Features of the three levels → :class:`Found`.

    Args:
        num_classes: without a background.
        channels: of the three features.
        width: of the branches of the classes.
    """

    def __init__(self, num_classes: int, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            Detection(num_classes, channels[0], count, width) for count in channels
        )

    def forward(self, features: Sequence[Tensor]) -> Found:
        boxes, scores = [], []
        for stride, head, x in zip(STRIDES, self.heads, features, strict=True):
            distances, logits = head(x)
            boxes.append(boxes_around(centres(x, stride), distances * float(stride)))
            scores.append(logits)
        return Found(ops.cat(boxes, 1), F.sigmoid(ops.cat(scores, 1)))
