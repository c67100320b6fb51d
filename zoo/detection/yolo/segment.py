"""YOLOv8 for instance segmentation: a mask for each box, under the parameters' names of public
checkpoints.

A mask is a sum of prototypes, masks of the whole image (Bolya et al., YOLACT,
https://arxiv.org/abs/1904.02689): the network gives the prototypes, and for each box what its mask
has of each. Layers as of YOLOv8; names and channels of this head are those that tensorrtx
(https://github.com/wang-xinyu/tensorrtx, MIT) reads from checkpoints, and none of its publisher's
code is used. Weights: AGPL-3.0 as their publisher states, yours to obtain; none are shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn, ops
from trtnet.dtypes import float32
from trtnet.zoo.detection.yolo import v8
from trtnet.zoo.detection.yolo.blocks import Conv
from trtnet.zoo.detection.yolo.heads import (
    BINS,
    Branch,
    Detect,
    Found,
    number_branches,
    plain,
    rows,
)
from trtnet.zoo.detection.yolo.registering import Design, register_suppressed

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

PROTOTYPES = 32
"""Masks that those of objects are sums of."""


class Proto(nn.Module):
    """Prototypes (B, 32, 2·H, 2·W) of features (B, C, H, W); C channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.cv2 = Conv(channels, channels, 3)
        self.cv3 = Conv(channels, PROTOTYPES)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))


class Segment(Detect):
    """Features of the three levels → :class:`Found` with ``coefficients`` (B, N, 32) of boxes, and
    ``prototypes`` (B, 32, height, width) of the image: a quarter as high and wide as the input."""

    def __init__(
        self, num_classes: int, channels: Sequence[int], bins: int = BINS,
        of_classes: Branch = plain,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, channels, bins, of_classes)
        self.proto = Proto(channels[0])
        self.cv4 = number_branches(channels, PROTOTYPES)

    def forward(self, features: Sequence[Tensor]) -> Found:
        found = super().forward(features)
        numbers = [rows(branch(x)) for branch, x in zip(self.cv4, features, strict=True)]
        return found._replace(
            of_boxes={"coefficients": ops.cat(numbers, 1)},
            of_image={"prototypes": self.proto(features[0]).to(float32)},
        )


def _twin(line: str, size: str, **arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.yolo.torch_tasks import YoloSegment  # imports torch

    return YoloSegment(line, size, **arguments)


yolov8n_seg, yolov8s_seg, yolov8m_seg, yolov8l_seg, yolov8x_seg = (
    register_suppressed(
        f"yolov8{size}_seg",
        f"YOLOv8{size}-seg.",
        Design(__name__, "v8", size, v8.ROWS, v8.LEVELS, scale),
        Segment,
        _twin,
    )
    for size, scale in v8.SCALES.items()
)
