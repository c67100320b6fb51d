"""EfficientNet and EfficientNetV2, in torchvision's form.

Tan and Le, EfficientNet: Rethinking Model Scaling, https://arxiv.org/abs/1905.11946;
Tan and Le, EfficientNetV2: Smaller Models and Faster Training, https://arxiv.org/abs/2104.00298.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from trtnet import nn
from trtnet.zoo.blocks import (
    Conv2dNormActivation,
    NormLayer,
    SqueezeExcitation,
    StochasticDepth,
    make_divisible,
)
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class Stage(NamedTuple):
    """Blocks of one width: a row of table 1 of the first paper, and of table 4 of the second.

    `stride` is that of the first block; the others have stride 1 and as many inputs as outputs.
    """

    block: type[MBConv] | type[FusedMBConv]
    expand_ratio: int
    kernel_size: int
    stride: int
    in_channels: int
    out_channels: int
    depth: int


class _Block(nn.Module):
    """`layers`, and a shortcut where they keep the shape."""

    def __init__(self, layers: Sequence[nn.Module], has_shortcut: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth()
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.block(x)
        return self.stochastic_depth(out) + x if self.has_shortcut else out


class MBConv(_Block):
    """Widens by `expand_ratio` (1×1), filters depthwise, squeezes and excites, narrows (1×1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expand_ratio: int,
        norm_layer: NormLayer,
    ) -> None:
        hidden = make_divisible(in_channels * expand_ratio)
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.SiLU)
        layers: list[nn.Module] = [
            conv(hidden, hidden, kernel_size, stride, groups=hidden),
            SqueezeExcitation(hidden, max(1, in_channels // 4), activation=nn.SiLU),
            conv(hidden, out_channels, 1, activation_layer=None),
        ]
        if hidden != in_channels:
            layers.insert(0, conv(in_channels, hidden, 1))
        super().__init__(layers, stride == 1 and in_channels == out_channels)


class FusedMBConv(_Block):
    """Widens by `expand_ratio` and filters in one full convolution, narrows (1×1); where nothing
    is widened, the convolution alone."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expand_ratio: int,
        norm_layer: NormLayer,
    ) -> None:
        hidden = make_divisible(in_channels * expand_ratio)
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.SiLU)
        if hidden == in_channels:
            layers = [conv(in_channels, out_channels, kernel_size, stride)]
        else:
            layers = [
                conv(in_channels, hidden, kernel_size, stride),
                conv(hidden, out_channels, 1, activation_layer=None),
            ]
        super().__init__(layers, stride == 1 and in_channels == out_channels)


class EfficientNet(nn.Module):
    """Input (N, 3, H, W); output (N, num_classes), logits.

    Args:
        stages: the blocks.
        last_channels: channels after the last convolution.
        eps: of every BatchNorm.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        last_channels: int,
        num_classes: int = 1000,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        norm_layer = partial(nn.BatchNorm2d, eps=eps)
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.SiLU)
        layers: list[nn.Module] = [conv(3, stages[0].in_channels, 3, stride=2)]
        for block, expand_ratio, kernel_size, stride, in_channels, out_channels, depth in stages:
            first = block(in_channels, out_channels, kernel_size, stride, expand_ratio, norm_layer)
            rest = (
                block(out_channels, out_channels, kernel_size, 1, expand_ratio, norm_layer)
                for _ in range(depth - 1)
            )
            layers.append(nn.Sequential(first, *rest))
        layers.append(conv(stages[-1].out_channels, last_channels, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(last_channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


_B0 = (
    Stage(MBConv, 1, 3, 1, 32, 16, 1),
    Stage(MBConv, 6, 3, 2, 16, 24, 2),
    Stage(MBConv, 6, 5, 2, 24, 40, 2),
    Stage(MBConv, 6, 3, 2, 40, 80, 3),
    Stage(MBConv, 6, 5, 1, 80, 112, 3),
    Stage(MBConv, 6, 5, 2, 112, 192, 4),
    Stage(MBConv, 6, 3, 1, 192, 320, 1),
)
_V2_S = (
    Stage(FusedMBConv, 1, 3, 1, 24, 24, 2),
    Stage(FusedMBConv, 4, 3, 2, 24, 48, 4),
    Stage(FusedMBConv, 4, 3, 2, 48, 64, 4),
    Stage(MBConv, 4, 3, 2, 64, 128, 6),
    Stage(MBConv, 6, 3, 1, 128, 160, 9),
    Stage(MBConv, 6, 3, 2, 160, 256, 15),
)
_V2_M = (
    Stage(FusedMBConv, 1, 3, 1, 24, 24, 3),
    Stage(FusedMBConv, 4, 3, 2, 24, 48, 5),
    Stage(FusedMBConv, 4, 3, 2, 48, 80, 5),
    Stage(MBConv, 4, 3, 2, 80, 160, 7),
    Stage(MBConv, 6, 3, 1, 160, 176, 14),
    Stage(MBConv, 6, 3, 2, 176, 304, 18),
    Stage(MBConv, 6, 3, 1, 304, 512, 5),
)
_V2_L = (
    Stage(FusedMBConv, 1, 3, 1, 32, 32, 4),
    Stage(FusedMBConv, 4, 3, 2, 32, 64, 7),
    Stage(FusedMBConv, 4, 3, 2, 64, 96, 7),
    Stage(MBConv, 4, 3, 2, 96, 192, 10),
    Stage(MBConv, 6, 3, 1, 192, 224, 19),
    Stage(MBConv, 6, 3, 2, 224, 384, 25),
    Stage(MBConv, 6, 3, 1, 384, 640, 7),
)


def _scaled(width: float, depth: float, num_classes: int, eps: float = 1e-5) -> EfficientNet:
    """EfficientNet-B0 with `width` times the channels and `depth` times the blocks."""
    stages = [
        stage._replace(
            in_channels=make_divisible(stage.in_channels * width),
            out_channels=make_divisible(stage.out_channels * width),
            depth=math.ceil(stage.depth * depth),
        )
        for stage in _B0
    ]
    return EfficientNet(stages, 4 * stages[-1].out_channels, num_classes, eps)


@register(torchvision=True)
def efficientnet_b0(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B0 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.0, 1.0, num_classes)


@register(torchvision=True, input_shape=(3, 240, 240))
def efficientnet_b1(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B1 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.0, 1.1, num_classes)


@register(torchvision=True, input_shape=(3, 288, 288))
def efficientnet_b2(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B2 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.1, 1.2, num_classes)


@register(torchvision=True, input_shape=(3, 300, 300))
def efficientnet_b3(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B3 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.2, 1.4, num_classes)


@register(torchvision=True, input_shape=(3, 380, 380))
def efficientnet_b4(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B4 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.4, 1.8, num_classes)


@register(torchvision=True, input_shape=(3, 456, 456))
def efficientnet_b5(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B5 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.6, 2.2, num_classes, eps=1e-3)


@register(torchvision=True, input_shape=(3, 528, 528))
def efficientnet_b6(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B6 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(1.8, 2.6, num_classes, eps=1e-3)


@register(torchvision=True, input_shape=(3, 600, 600))
def efficientnet_b7(num_classes: int = 1000) -> EfficientNet:
    """EfficientNet-B7 (Tan and Le, https://arxiv.org/abs/1905.11946)."""
    return _scaled(2.0, 3.1, num_classes, eps=1e-3)


@register(torchvision=True, input_shape=(3, 384, 384))
def efficientnet_v2_s(num_classes: int = 1000) -> EfficientNet:
    """EfficientNetV2-S (Tan and Le, https://arxiv.org/abs/2104.00298)."""
    return EfficientNet(_V2_S, 1280, num_classes, eps=1e-3)


@register(torchvision=True, input_shape=(3, 480, 480))
def efficientnet_v2_m(num_classes: int = 1000) -> EfficientNet:
    """EfficientNetV2-M (Tan and Le, https://arxiv.org/abs/2104.00298)."""
    return EfficientNet(_V2_M, 1280, num_classes, eps=1e-3)


@register(torchvision=True, input_shape=(3, 480, 480))
def efficientnet_v2_l(num_classes: int = 1000) -> EfficientNet:
    """EfficientNetV2-L (Tan and Le, https://arxiv.org/abs/2104.00298)."""
    return EfficientNet(_V2_L, 1280, num_classes, eps=1e-3)
