"""Lite R-ASPP on a dilated MobileNetV3, in torchvision's form.

Howard et al., Searching for MobileNetV3, https://arxiv.org/abs/1905.02244, section 6.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.segmentation.backbones import mobilenet_v3_features
from trtnet.zoo.segmentation.model import enlarge, named, register_segmentation

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class LRASPPHead(nn.Module):
    """Logits from features of two sizes; the channels of the smaller ones are weighed by their
    means over the image."""

    def __init__(
        self, low_channels: int, high_channels: int, num_classes: int, inter_channels: int
    ) -> None:
        super().__init__()
        self.cbr = nn.Sequential(
            nn.Conv2d(high_channels, inter_channels, 1, bias=False),
            nn.BatchNorm2d(inter_channels),
            nn.ReLU(),
        )
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(high_channels, inter_channels, 1, bias=False),
            nn.Sigmoid(),
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(inter_channels, num_classes, 1)

    def forward(self, input: dict[str, Tensor]) -> Tensor:
        low, high = input["low"], input["high"]
        x = enlarge(self.cbr(high) * self.scale(high), like=low)
        return self.low_classifier(low) + self.high_classifier(x)


class LRASPP(nn.Module):
    """Input and outputs as those of :class:`trtnet.zoo.segmentation.model.SegmentationModel`.

    Args:
        backbone: returns features by name: ``low``, the larger ones, and ``high``.
        low_channels, high_channels: of the features.
    """

    def __init__(
        self,
        backbone: nn.Module,
        low_channels: int,
        high_channels: int,
        num_classes: int,
        inter_channels: int = 128,
        argmax: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = LRASPPHead(low_channels, high_channels, num_classes, inter_channels)
        self.argmax = argmax

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        return named(enlarge(self.classifier(self.backbone(input)), like=input), self.argmax)


@register_segmentation
def lraspp_mobilenet_v3_large(num_classes: int = 21, argmax: bool = False) -> LRASPP:
    """Lite R-ASPP on MobileNetV3-Large (Howard et al., https://arxiv.org/abs/1905.02244)."""
    return LRASPP(mobilenet_v3_features("low", "high"), 40, 960, num_classes, argmax=argmax)
