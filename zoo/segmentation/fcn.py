"""FCN on a dilated ResNet, in torchvision's form.

Long et al., Fully Convolutional Networks for Semantic Segmentation,
https://arxiv.org/abs/1411.4038. As in torchvision, the features of one size alone are used.
"""

from __future__ import annotations

from collections.abc import Callable

from trtnet import nn
from trtnet.zoo.resnet import ResNet, resnet50, resnet101
from trtnet.zoo.segmentation.backbones import resnet_features
from trtnet.zoo.segmentation.model import SegmentationModel, register_segmentation


class FCNHead(nn.Sequential):
    """Logits for `channels` classes."""

    def __init__(self, in_channels: int, channels: int) -> None:
        inter_channels = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, inter_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(inter_channels),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(inter_channels, channels, 1),
        )


class FCN(SegmentationModel):
    """See :class:`SegmentationModel`."""

    def __init__(
        self, resnet: Callable[..., ResNet], num_classes: int, aux_loss: bool, argmax: bool
    ) -> None:
        aux = FCNHead(1024, num_classes) if aux_loss else None
        backbone = resnet_features(resnet, aux_loss)
        super().__init__(backbone, FCNHead(2048, num_classes), aux, argmax)


@register_segmentation
def fcn_resnet50(num_classes: int = 21, aux_loss: bool = False, argmax: bool = False) -> FCN:
    """FCN on ResNet-50 (Long et al., https://arxiv.org/abs/1411.4038)."""
    return FCN(resnet50, num_classes, aux_loss, argmax)


@register_segmentation
def fcn_resnet101(num_classes: int = 21, aux_loss: bool = False, argmax: bool = False) -> FCN:
    """FCN on ResNet-101 (Long et al., https://arxiv.org/abs/1411.4038)."""
    return FCN(resnet101, num_classes, aux_loss, argmax)
