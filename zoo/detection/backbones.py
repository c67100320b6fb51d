"""Backbones of detectors: classifiers without their heads, and feature pyramids on them.

torchvision freezes the BatchNorm of trained backbones (``FrozenBatchNorm2d``), which computes what
:class:`trtnet.nn.BatchNorm2d` does, from the same keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.errors import UsageError
from trtnet.zoo.blocks import IntermediateLayerGetter, NormLayer
from trtnet.zoo.detection.feature_pyramid import FeaturePyramidNetwork, LastLevelMaxPool
from trtnet.zoo.mobilenet_v3 import InvertedResidual, mobilenet_v3_large
from trtnet.zoo.resnet import ResNet, resnet50

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

OUT_CHANNELS = 256
"""Channels of all levels of a pyramid."""


class BackboneWithFPN(nn.Module):
    """Returns the levels of a feature pyramid by name, the largest features first.

    Args:
        backbone: its children are called one after the other.
        return_layers: name of a child → name of its features.
        in_channels_list: channels of these features.
        extra_blocks: see :class:`FeaturePyramidNetwork`; by default :class:`LastLevelMaxPool`.
        norm_layer: of the pyramid.
    """

    def __init__(
        self,
        backbone: nn.Module,
        return_layers: dict[str, str],
        in_channels_list: Sequence[int],
        extra_blocks: nn.Module | None = None,
        norm_layer: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(backbone, return_layers)
        self.fpn = FeaturePyramidNetwork(
            in_channels_list, OUT_CHANNELS, extra_blocks or LastLevelMaxPool(), norm_layer
        )
        self.out_channels = OUT_CHANNELS

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn(self.body(x))


def resnet_fpn(
    resnet: Callable[[], ResNet] = resnet50,
    returned_layers: Sequence[int] = (1, 2, 3, 4),
    extra_blocks: nn.Module | None = None,
    norm_layer: NormLayer | None = None,
    norm_eps: float = 1e-5,
) -> BackboneWithFPN:
    """A pyramid on a `resnet` with bottlenecks: levels ``0``, ``1`` … of its stages
    `returned_layers`, and those of the `extra_blocks`.

    Args:
        norm_layer: of the pyramid.
        norm_eps: of the BatchNorm of the ResNet, see :func:`set_norm_eps`.
    """
    backbone = resnet()
    set_norm_eps(backbone, norm_eps)
    names = {f"layer{number}": str(level) for level, number in enumerate(returned_layers)}
    channels = [256 * 2 ** (number - 1) for number in returned_layers]
    return BackboneWithFPN(backbone, names, channels, extra_blocks, norm_layer)


def mobilenet_v3_large_fpn(norm_eps: float = 1e-3) -> BackboneWithFPN:
    """A pyramid on MobileNetV3-Large, a thirty-second of the image's size: levels ``0``, its
    last strided block, ``1``, its last convolution, and ``pool``.

    Args:
        norm_eps: of the BatchNorm, see :func:`set_norm_eps`.
    """
    features = mobilenet_v3_large().features
    set_norm_eps(features, norm_eps)
    strided = [index for index, block in enumerate(features)
               if isinstance(block, InvertedResidual) and block.stride > 1]  # fmt: skip
    last = len(features) - 1
    return BackboneWithFPN(features, {str(strided[-1]): "0", str(last): "1"}, (160, 960))


def set_norm_eps(module: nn.Module, eps: float) -> None:
    """Makes `eps` what every BatchNorm2d in `module` adds to a variance: the first published
    weights of torchvision's detectors were trained with 0.

    Raises:
        UsageError: `eps` is negative or not finite.
    """
    if not 0 <= eps < math.inf:
        raise UsageError("norm_eps is added to variances", expected="0 or a positive number",
                         got=eps)  # fmt: skip
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eps = eps
