"""SSDlite on MobileNetV3, in torchvision's form.

Sandler et al., MobileNetV2, https://arxiv.org/abs/1801.04381, section 6.2; Howard et al., Searching
for MobileNetV3, https://arxiv.org/abs/1905.02244, section 6.3.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.detection import DefaultBoxGenerator, Suppression
from trtnet.zoo.blocks import Conv2dNormActivation
from trtnet.zoo.detection.registering import of_one_size, register_detector
from trtnet.zoo.detection.ssd import SSD, SSDHead
from trtnet.zoo.mobilenet_v3 import mobilenet_v3_large

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_C4 = 13  # the last strided block: its first convolution gives the first features
_CHANNELS = (672, 480, 512, 256, 256, 128)  # of the features
_conv_bn = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=0.001),
                   activation_layer=nn.ReLU6)  # fmt: skip


class _PredictionBlock(nn.Sequential):
    """A depthwise convolution and a last one of 1×1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            _conv_bn(in_channels, in_channels, 3, groups=in_channels),
            nn.Conv2d(in_channels, out_channels, 1),
        )


def _extra(in_channels: int, out_channels: int) -> nn.Sequential:
    """Features of half the size."""
    channels = out_channels // 2
    return nn.Sequential(
        _conv_bn(in_channels, channels, 1),
        _conv_bn(channels, channels, 3, stride=2, groups=channels),
        _conv_bn(channels, out_channels, 1),
    )


class SSDLiteFeatureExtractorMobileNet(nn.Module):
    """Six sizes of features: two of MobileNetV3-Large with a narrow tail, four behind it."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(mobilenet_v3_large(reduced_tail=True).features)
        block = layers[_C4].block
        self.features = nn.Sequential(
            nn.Sequential(*layers[:_C4], block[0]),
            nn.Sequential(block[1:], *layers[_C4 + 1 :]),
        )
        pairs = itertools.pairwise(_CHANNELS[1:])
        self.extra = nn.ModuleList([_extra(*pair) for pair in pairs])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = []
        for block in (*self.features, *self.extra):
            x = block(x)
            found.append(x)
        return {str(index): level for index, level in enumerate(found)}


@register_detector((3, 320, 320), of_one_size(320, (0.5,) * 3, (0.5,) * 3))
def ssdlite320_mobilenet_v3_large(
    num_classes: int = 91,
    score_thresh: float = 0.001,
    nms_thresh: float = 0.55,
    detections_per_img: int = 300,
    topk_candidates: int = 300,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> SSD:
    """SSDlite of 320×320 pixels on MobileNetV3-Large.

    Howard et al., https://arxiv.org/abs/1905.02244.
    """
    anchors = DefaultBoxGenerator([(2, 3)] * 6, min_ratio=0.2, max_ratio=0.95)
    return SSD(
        SSDLiteFeatureExtractorMobileNet(),
        anchors,
        SSDHead(_PredictionBlock, _CHANNELS, anchors.num_anchors_per_location(), num_classes),
        Suppression(nms_thresh, score_thresh, detections_per_img, images="one by one"),
        topk_candidates,
        output_format,
        image_sizes,
    )
