"""FCOS, in torchvision's form.

Tian et al., FCOS: A Simple and Strong Anchor-Free Object Detector,
https://arxiv.org/abs/2006.09214. Points are written as square anchors of the stride's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.detection import AnchorGenerator, Suppression, decode_linear
from trtnet.nn import functional as F
from trtnet.zoo.detection.backbones import OUT_CHANNELS, resnet_fpn
from trtnet.zoo.detection.feature_pyramid import LastLevelP6P7
from trtnet.zoo.detection.model import Detector, HeadOutputs, rows
from trtnet.zoo.detection.registering import register_detector

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_STRIDES = (8, 16, 32, 64, 128)
_DEPTH = 4  # convolutions before the last
_GROUPS = 32


def _tower() -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(_DEPTH):
        layers += [nn.Conv2d(OUT_CHANNELS, OUT_CHANNELS, 3, padding=1),
                   nn.GroupNorm(_GROUPS, OUT_CHANNELS), nn.ReLU()]  # fmt: skip
    return nn.Sequential(*layers)


class FCOSClassificationHead(nn.Module):
    """Logits of the classes of each point."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv = _tower()
        self.cls_logits = nn.Conv2d(OUT_CHANNELS, num_classes, 3, padding=1)

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        return [rows(self.cls_logits(self.conv(level)), self.num_classes) for level in x]


class FCOSRegressionHead(nn.Module):
    """Distances of each point from the four sides, in strides, and how central it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _tower()
        self.bbox_reg = nn.Conv2d(OUT_CHANNELS, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(OUT_CHANNELS, 1, 3, padding=1)

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        boxes, centers = [], []
        for level in x:
            features = self.conv(level)
            boxes.append(rows(F.relu(self.bbox_reg(features)), 4))
            centers.append(rows(self.bbox_ctrness(features), 1))
        return boxes, centers


class FCOSHead(nn.Module):
    """Returns logits of classes, distances and logits of centredness, for each of its features."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classification_head = FCOSClassificationHead(num_classes)
        self.regression_head = FCOSRegressionHead()

    def forward(self, x: Sequence[Tensor]) -> HeadOutputs:
        boxes, centers = self.regression_head(x)
        logits = self.classification_head(x)
        return {"cls_logits": logits, "bbox_regression": boxes, "bbox_ctrness": centers}


class FCOS(Detector):
    """See :class:`Detector`; a score is the root of those of the class and of the centre."""

    def decode(self, outputs: HeadOutputs, anchors: Sequence[Tensor]) -> list[Tensor]:
        return [decode_linear(*level) for level in
                zip(outputs["bbox_regression"], anchors, strict=True)]  # fmt: skip

    def scores(self, outputs: HeadOutputs) -> list[Tensor]:
        classes = super().scores(outputs)
        centers = [level.float().sigmoid() for level in outputs["bbox_ctrness"]]
        return [(a * b).sqrt() for a, b in zip(classes, centers, strict=True)]


@register_detector()
def fcos_resnet50_fpn(
    num_classes: int = 91,
    score_thresh: float = 0.2,
    nms_thresh: float = 0.6,
    detections_per_img: int = 100,
    topk_candidates: int = 1000,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> FCOS:
    """FCOS on ResNet-50 (Tian et al., https://arxiv.org/abs/2006.09214)."""
    extra = LastLevelP6P7(OUT_CHANNELS, OUT_CHANNELS)
    return FCOS(
        resnet_fpn(returned_layers=(2, 3, 4), extra_blocks=extra),
        AnchorGenerator([(stride,) for stride in _STRIDES], [(1.0,)] * len(_STRIDES)),
        FCOSHead(num_classes),
        Suppression(nms_thresh, score_thresh, detections_per_img, images="one by one"),
        topk_candidates,
        output_format,
        image_sizes,
    )
