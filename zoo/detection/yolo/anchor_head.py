"""The head of YOLOv7, under the parameters' names of MultimediaTechLab's release.

Boxes are relative to anchors; a number that training found is added to each input channel, and
another multiplies each output channel (Wang et al., https://arxiv.org/abs/2105.04206).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet import nn, ops
from trtnet.detection.distances import halves
from trtnet.dtypes import float32
from trtnet.nn import functional as F
from trtnet.zoo.detection.yolo.heads import STRIDES, Found, centres

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
"""Width and height in pixels of three anchors for each level."""
_NUMBERS = 5  # of an anchor besides its classes: the box and whether there is an object


class Implicit(nn.Module):
    """A number for each channel, added to or multiplied with all cells."""

    def __init__(self, channels: int, multiplied: bool) -> None:
        super().__init__()
        self.implicit = nn.Parameter(np.zeros((1, channels, 1, 1), np.float32))
        self.multiplied = multiplied

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit if self.multiplied else x + self.implicit


class IDetection(nn.Module):
    """(B, 3·(5 + classes), H, W) of one feature."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        out_channels = len(ANCHORS[0]) * (_NUMBERS + num_classes)
        self.head_conv = nn.Conv2d(in_channels, out_channels, 1)
        self.implicit_a = Implicit(in_channels, multiplied=False)
        self.implicit_m = Implicit(out_channels, multiplied=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.implicit_m(self.head_conv(self.implicit_a(x)))


class AnchorDetection(nn.Module):
    """Features of the three levels → :class:`Found`: of each level the cells row by row for the
    first anchor, then for the second, then for the third.

    Args:
        num_classes: without a background.
        channels: of the three features.
    """

    def __init__(self, num_classes: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(IDetection(num_classes, count) for count in channels)

    def forward(self, features: Sequence[Tensor]) -> Found:
        boxes, scores = [], []
        for stride, anchors, head, x in zip(STRIDES, ANCHORS, self.heads, features, strict=True):
            found = _by_anchor(head(x))
            for index, anchor in enumerate(anchors):
                own = found[:, index]  # (B, H·W, 5 + classes)
                middle, sides = halves(own[..., :4])
                centre = (middle * 2.0 - 1.0) * float(stride) + centres(x, stride)
                half = (sides * 2.0) ** 2 * _halved(x, anchor)
                boxes.append(ops.cat([centre - half, centre + half], 2))
                scores.append(own[..., 5:] * own[..., 4:5])
        return Found(ops.cat(boxes, 1), ops.cat(scores, 1))


def _by_anchor(x: Tensor) -> Tensor:
    """Probabilities (B, 3, H·W, 5 + classes) float32 of what a head gives."""
    batch, channels, _, _ = x.shape
    anchors = len(ANCHORS[0])
    assert isinstance(channels, int)
    rows = x.to(float32).reshape(batch, anchors, channels // anchors, -1)
    return F.sigmoid(rows.transpose(2, 3))


def _halved(like: Tensor, anchor: tuple[int, int]) -> Tensor:
    """(1, 1, 2): half of an anchor's width and height."""
    return like.network.constant(np.array(anchor, np.float32).reshape(1, 1, 2) / 2)
