"""Backbones of segmentation models: classifiers without their heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.mobilenet_v3 import mobilenet_v3_large
from trtnet.zoo.resnet import ResNet

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

DILATED = (False, True, True)  # a ResNet's last stage keeps an eighth of the image's size


class IntermediateLayerGetter(nn.ModuleDict):
    """Calls the children of `model` one after the other, up to the last that is asked for.

    Args:
        return_layers: name of a child → name of its output in the dict that is returned.
    """

    def __init__(self, model: nn.Module, return_layers: Mapping[str, str]) -> None:
        children = dict(model.named_children())
        last = max(list(children).index(name) for name in return_layers)
        super().__init__(dict(list(children.items())[: last + 1]))
        self.return_layers = dict(return_layers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                found[self.return_layers[name]] = x
        return found


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
