"""Heads of the YOLO lines: a class and a box for each cell of three levels.

A box is the distances of its sides from the cell's centre, in strides. Each is the expectation of a
distribution (Li et al., Generalized Focal Loss, https://arxiv.org/abs/2006.04388), or the number
itself where there is one bin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from trtnet import nn, ops
from trtnet.detection.anchors import grid_points
from trtnet.detection.distances import boxes_around, expected_distances
from trtnet.dtypes import float32
from trtnet.nn import functional as F
from trtnet.zoo.detection.yolo.blocks import Conv, depthwise

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

STRIDES = (8, 16, 32)
"""Distance of the cells of the three levels, in pixels."""
BINS = 16
_MOST_CLASSES = 100  # from which on the branch of the classes grows no further
_LEAST = 16  # channels of the branch of the boxes


class Found(NamedTuple):
    """What a head finds in N cells.

    Attributes:
        boxes: (B, N, 4) float32 corners in pixels.
        scores: (B, N, classes) float32.
        of_boxes: what else is known of each box, (B, N, …) float32, by name.
        of_image: what is known of the image, by name.
    """

    boxes: Tensor
    scores: Tensor
    of_boxes: Mapping[str, Tensor] = MappingProxyType({})
    of_image: Mapping[str, Tensor] = MappingProxyType({})


class DFL(nn.Module):
    """Distances (B, N, 4) float32 of (B, N, 4·bins) logits. What the bins stand for is a weight of
    the checkpoint, 0, 1, … bins-1."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False)
        self.bins = bins

    def forward(self, logits: Tensor) -> Tensor:
        return expected_distances(logits, self.bins, self.conv.weight.reshape(-1))


Branch = Callable[[int, int, int], nn.Module]
"""Makes a branch of its input's channels, those inside, and those of its output."""


def plain(in_channels: int, hidden: int, out_channels: int) -> nn.Module:
    """Two 3×3 convolutions, and one for the output."""
    return nn.Sequential(
        Conv(in_channels, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, out_channels, 1)
    )


def light(in_channels: int, hidden: int, out_channels: int) -> nn.Module:
    """As :func:`plain`, each convolution a depthwise and a pointwise one."""
    return nn.Sequential(
        nn.Sequential(depthwise(in_channels, 3), Conv(in_channels, hidden)),
        nn.Sequential(depthwise(hidden, 3), Conv(hidden, hidden)),
        nn.Conv2d(hidden, out_channels, 1),
    )


class Detect(nn.Module):
    """Features of the three levels → :class:`Found`.

    Args:
        num_classes: without a background.
        channels: of the three features.
        bins: of a distribution.
        of_classes: makes the branches of the classes.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        bins: int = BINS,
        of_classes: Branch = plain,
    ) -> None:
        super().__init__()
        self.cv2 = _box_branches(channels, bins)
        self.cv3 = _class_branches(channels, num_classes, of_classes)
        self.dfl = DFL(bins) if bins > 1 else nn.Identity()

    def forward(self, features: Sequence[Tensor]) -> Found:
        return _found(features, self.cv2, self.cv3, self.dfl)


class DualDetect(Detect):
    """A second head, which was trained to give one box for each object, beside that which gives
    several: suppression chooses among the latter's.

    Args:
        end2end: whether the boxes are those of the second head.
    """

    def __init__(
        self, num_classes: int, channels: Sequence[int], bins: int, of_classes: Branch,
        end2end: bool,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, channels, bins, of_classes)
        self.one2one_cv2 = _box_branches(channels, bins)
        self.one2one_cv3 = _class_branches(channels, num_classes, of_classes)
        self.end2end = end2end

    def forward(self, features: Sequence[Tensor]) -> Found:
        if not self.end2end:
            return super().forward(features)
        return _found(features, self.one2one_cv2, self.one2one_cv3, self.dfl)


def class_width(num_classes: int, channels: int) -> int:
    """Channels inside of the branches of the classes.

    Args:
        channels: of the first feature.
    """
    return max(channels, min(num_classes, _MOST_CLASSES))


def number_branches(channels: Sequence[int], count: int) -> nn.ModuleList:
    """Branches that give `count` numbers for each cell, of features of so many `channels`."""
    hidden = max(channels[0] // 4, count)
    return nn.ModuleList(plain(channel, hidden, count) for channel in channels)


def _box_branches(channels: Sequence[int], bins: int) -> nn.ModuleList:
    hidden = max(_LEAST, channels[0] // 4, 4 * bins)
    return nn.ModuleList(plain(count, hidden, 4 * bins) for count in channels)


def _class_branches(channels: Sequence[int], num_classes: int, branch: Branch) -> nn.ModuleList:
    hidden = class_width(num_classes, channels[0])
    return nn.ModuleList(branch(count, hidden, num_classes) for count in channels)


def _found(
    features: Sequence[Tensor], of_boxes: nn.ModuleList, of_classes: nn.ModuleList, dfl: nn.Module
) -> Found:
    boxes, scores = [], []
    for level, x in enumerate(features):
        distances = dfl(rows(of_boxes[level](x))) * float(STRIDES[level])
        boxes.append(boxes_around(centres(x, STRIDES[level]), distances))
        scores.append(rows(of_classes[level](x)))
    return Found(ops.cat(boxes, 1), F.sigmoid(ops.cat(scores, 1)))


def centres(x: Tensor, stride: int) -> Tensor:
    """(1, H·W, 2) float32: x and y of the centres of the cells of (B, C, H, W), in pixels."""
    return grid_points(x, (stride, stride), 0.5).unsqueeze(0)


def rows(x: Tensor) -> Tensor:
    """(B, H·W, C) float32 of (B, C, H, W)."""
    return x.to(float32).flatten(2).transpose(1, 2)
