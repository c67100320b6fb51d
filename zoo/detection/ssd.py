"""SSD, in torchvision's form.

Liu et al., SSD: Single Shot MultiBox Detector, https://arxiv.org/abs/1512.02325.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import detection, nn
from trtnet.detection import DefaultBoxGenerator, Suppression, coding
from trtnet.nn import functional as F
from trtnet.ops import cat, where
from trtnet.zoo.detection.model import Detector, HeadOutputs, rows
from trtnet.zoo.detection.registering import levels_of_vgg, register_detector
from trtnet.zoo.vgg import vgg16

if TYPE_CHECKING:
    from trtnet.detection import Detections
    from trtnet.tensor import Tensor

_CHANNELS = (512, 1024, 512, 256, 256, 256)  # of the features
_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)  # of a side, as a fraction of the image
_STEPS = (8, 16, 32, 64, 100, 300)
_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
_SCALE = 20.0  # of the first features' norm


class SSDFeatureExtractorVGG(nn.Module):
    """Six sizes of features: of VGG-16 before its fourth pooling, scaled to a norm of each pixel
    that is learnt, and of convolutions in the place of its linear layers and behind them."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(vgg16().features)
        pools = [index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        layers[pools[2]] = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.scale_weight = nn.Parameter(np.full(_CHANNELS[0], _SCALE, np.float32))
        self.features = nn.Sequential(*layers[: pools[3]])
        fully_connected = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.ReLU(),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(),
        )
        self.extra = nn.ModuleList(
            [
                nn.Sequential(*layers[pools[3] : -1], fully_connected),
                _extra(1024, 256, 512, stride=2),
                _extra(512, 128, 256, stride=2),
                _extra(256, 128, 256),
                _extra(256, 128, 256),
            ]
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.features(x)
        found = [F.normalize(x) * self.scale_weight.reshape(1, -1, 1, 1)]
        for block in self.extra:
            x = block(x)
            found.append(x)
        return {str(index): level for index, level in enumerate(found)}


def _extra(in_channels: int, channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Features of half the size, or without their border of one pixel."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1),
        nn.ReLU(),
        nn.Conv2d(channels, out_channels, 3, stride, padding=int(stride > 1)),
        nn.ReLU(),
    )


class SSDScoringHead(nn.Module):
    """A module for each of the features, whose outputs have `columns` for each default box."""

    def __init__(self, modules: Sequence[nn.Module], columns: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(modules)
        self.columns = columns

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        levels = zip(self.module_list, x, strict=True)
        return cat([rows(module(level), self.columns) for module, level in levels], 1)


class SSDHead(nn.Module):
    """Returns logits of classes and shifts of default boxes.

    Args:
        block: called with channels of features and of the result.
    """

    def __init__(
        self,
        block: Callable[[int, int], nn.Module],
        in_channels: Sequence[int],
        num_anchors: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        both = [*zip(in_channels, num_anchors, strict=True)]

        def head(columns: int) -> SSDScoringHead:
            return SSDScoringHead([block(c, columns * count) for c, count in both], columns)

        self.classification_head = head(num_classes)
        self.regression_head = head(4)

    def forward(self, x: Sequence[Tensor]) -> HeadOutputs:
        return {
            "bbox_regression": self.regression_head(x),
            "cls_logits": self.classification_head(x),
        }


class SSD(Detector):
    """See :class:`Detector`; candidates are chosen of each class. The background, class 0, has the
    score 0."""

    def decode(self, outputs: HeadOutputs, anchors: Tensor) -> Tensor:
        return detection.decode_boxes(outputs["bbox_regression"], anchors, coding.SSD)

    def scores(self, outputs: HeadOutputs) -> Tensor:
        scores = F.softmax(outputs["cls_logits"].float(), -1)
        is_object = scores.network.constant((np.arange(scores.shape[-1]) > 0)[None, None])
        return where(is_object, scores, 0.0)

    def choose(self, boxes: Tensor, scores: Tensor, lengths: Sequence[Any]) -> Detections:
        return detection.detections_of_classes(boxes, scores, self.topk_candidates, self.how)


class _Convolution(nn.Conv2d):
    """A last convolution of the head."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)


@register_detector((3, 300, 300), levels_of_vgg(300))
def ssd300_vgg16(
    num_classes: int = 91,
    score_thresh: float = 0.01,
    nms_thresh: float = 0.45,
    detections_per_img: int = 200,
    topk_candidates: int = 400,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> SSD:
    """SSD of 300×300 pixels on VGG-16 (Liu et al., https://arxiv.org/abs/1512.02325)."""
    anchors = DefaultBoxGenerator(_RATIOS, scales=_SCALES, steps=_STEPS)
    return SSD(
        SSDFeatureExtractorVGG(),
        anchors,
        SSDHead(_Convolution, _CHANNELS, anchors.num_anchors_per_location(), num_classes),
        Suppression(nms_thresh, score_thresh, detections_per_img, images="one by one"),
        topk_candidates,
        output_format,
        image_sizes,
    )
