"""DeepLabV3 on a dilated ResNet or MobileNetV3, in torchvision's form.

Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation,
https://arxiv.org/abs/1706.05587.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.zoo.resnet import ResNet, resnet50, resnet101
from trtnet.zoo.segmentation.backbones import mobilenet_v3_features, resnet_features
from trtnet.zoo.segmentation.fcn import FCNHead
from trtnet.zoo.segmentation.model import SegmentationModel, enlarge, register_segmentation

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class ASPPConv(nn.Sequential):
    """A dilated 3×3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation,
                      bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )  # fmt: skip


class ASPPPooling(nn.Sequential):
    """The mean over the image, everywhere."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return enlarge(super().forward(x), like=x)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: what is seen through windows of several sizes, side by
    side.

    Args:
        atrous_rates: dilations of the windows.
    """

    def __init__(
        self, in_channels: int, atrous_rates: Sequence[int], out_channels: int = 256
    ) -> None:
        super().__init__()
        point = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )
        windows = (ASPPConv(in_channels, out_channels, rate) for rate in atrous_rates)
        self.convs = nn.ModuleList([point, *windows, ASPPPooling(in_channels, out_channels)])
        self.project = nn.Sequential(
            nn.Conv2d(len(self.convs) * out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Dropout(0.5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.project(ops.cat([conv(x) for conv in self.convs], 1))


class DeepLabHead(nn.Sequential):
    """Logits from the pyramid."""

    def __init__(
        self, in_channels: int, num_classes: int, atrous_rates: Sequence[int] = (12, 24, 36)
    ) -> None:
        super().__init__(
            ASPP(in_channels, atrous_rates),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, num_classes, 1),
        )


class DeepLabV3(SegmentationModel):
    """See :class:`SegmentationModel`."""


def _on_resnet(
    resnet: Callable[..., ResNet], num_classes: int, aux_loss: bool, argmax: bool
) -> DeepLabV3:
    aux = FCNHead(1024, num_classes) if aux_loss else None
    backbone = resnet_features(resnet, aux_loss)
    return DeepLabV3(backbone, DeepLabHead(2048, num_classes), aux, argmax)


@register_segmentation
def deeplabv3_resnet50(
    num_classes: int = 21, aux_loss: bool = False, argmax: bool = False
) -> DeepLabV3:
    """DeepLabV3 on ResNet-50 (Chen et al., https://arxiv.org/abs/1706.05587)."""
    return _on_resnet(resnet50, num_classes, aux_loss, argmax)


@register_segmentation
def deeplabv3_resnet101(
    num_classes: int = 21, aux_loss: bool = False, argmax: bool = False
) -> DeepLabV3:
    """DeepLabV3 on ResNet-101 (Chen et al., https://arxiv.org/abs/1706.05587)."""
    return _on_resnet(resnet101, num_classes, aux_loss, argmax)


@register_segmentation
def deeplabv3_mobilenet_v3_large(
    num_classes: int = 21, aux_loss: bool = False, argmax: bool = False
) -> DeepLabV3:
    """DeepLabV3 on MobileNetV3-Large (Chen et al., https://arxiv.org/abs/1706.05587)."""
    aux = FCNHead(40, num_classes) if aux_loss else None
    backbone = mobilenet_v3_features("aux" if aux_loss else None, "out")
    return DeepLabV3(backbone, DeepLabHead(960, num_classes), aux, argmax)
