"""Backbones of segmentation models: classifiers without their heads."""

from __future__ import annotations

from collections.abc import Callable

from trtnet.zoo.blocks import IntermediateLayerGetter
from trtnet.zoo.mobilenet_v3 import mobilenet_v3_large
from trtnet.zoo.resnet import ResNet

DILATED = (False, True, True)  # a ResNet's last stage keeps an eighth of the image's size


def resnet_features(resnet: Callable[..., ResNet], aux_loss: bool) -> IntermediateLayerGetter:
    """Features ``out`` (2048 channels) of a `resnet` with bottlenecks, and ``aux`` (1024) with
    `aux_loss`, both an eighth of the image's size."""
    layers = {"layer3": "aux"} if aux_loss else {}
    backbone = resnet(replace_stride_with_dilation=DILATED)
    return IntermediateLayerGetter(backbone, {**layers, "layer4": "out"})


def mobilenet_v3_features(low: str | None, high: str) -> IntermediateLayerGetter:
    """Features of MobileNetV3-Large under the names `low` (40 channels, an eighth of the image's
    size), unless ``None``, and `high` (960 channels, a sixteenth)."""
    features = mobilenet_v3_large(dilated=True).features
    layers = {"4": low} if low else {}  # the last block before the third halving
    return IntermediateLayerGetter(features, {**layers, str(len(features) - 1): high})
