"""MobileNetV3, in torchvision's form.

Howard et al., Searching for MobileNetV3, https://arxiv.org/abs/1905.02244.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.blocks import Conv2dNormActivation, SqueezeExcitation, make_divisible
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

# One inverted residual: kernel size, hidden channels, output channels, squeeze and excitation,
# hard swish instead of ReLU, stride.
Setting = tuple[int, int, int, bool, bool, int]

_STEM = 16  # channels of the first convolution
_LARGE: tuple[Setting, ...] = (  # table 1 of the paper
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_REDUCED = (  # half the channels of the last three blocks, but what the first of them widens to
    *_LARGE[:-3],
    (5, 672, 80, True, True, 2),
    (5, 480, 80, True, True, 1),
    (5, 480, 80, True, True, 1),
)
_SMALL: tuple[Setting, ...] = (  # table 2
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)

_conv_bn = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=0.001))


class InvertedResidual(nn.Module):
    """Widens (1×1), filters depthwise, weighs the channels, narrows linearly (1×1); a shortcut
    where the shape stays.

    Args:
        dilation: of the depthwise convolution; above 1 it takes the place of the stride.
    """

    def __init__(self, in_channels: int, setting: Setting, dilation: int = 1) -> None:
        super().__init__()
        kernel_size, hidden, out_channels, squeezes, hard_swish, stride = setting
        stride = 1 if dilation > 1 else stride
        conv_bn = partial(_conv_bn, activation_layer=nn.Hardswish if hard_swish else nn.ReLU)
        layers: list[nn.Module] = []
        if hidden != in_channels:
            layers.append(conv_bn(in_channels, hidden, 1))
        layers.append(
            conv_bn(hidden, hidden, kernel_size, stride, groups=hidden, dilation=dilation)
        )
        if squeezes:
            squeezed = make_divisible(hidden // 4)
            layers.append(SqueezeExcitation(hidden, squeezed, scale_activation=nn.Hardsigmoid))
        layers.append(_conv_bn(hidden, out_channels, 1, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.stride = stride
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.has_shortcut else self.block(x)


class MobileNetV3(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Args:
        settings: of the inverted residuals.
        head_width: channels of the classifier's hidden layer.
        dilated: whether the last strided block and the blocks after it are dilated by 2 and keep
            the size of their input.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        head_width: int,
        num_classes: int = 1000,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        channels = _STEM
        conv_bn = partial(_conv_bn, activation_layer=nn.Hardswish)
        layers: list[nn.Module] = [conv_bn(3, channels, 3, stride=2)]
        last_strided = max(index for index, setting in enumerate(settings) if setting[-1] > 1)
        for index, setting in enumerate(settings):
            dilation = 2 if dilated and index >= last_strided else 1
            layers.append(InvertedResidual(channels, setting, dilation))
            channels = setting[2]
        last_width = 6 * channels
        layers.append(conv_bn(channels, last_width, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(last_width, head_width),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(head_width, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@register(torchvision=True)
def mobilenet_v3_large(
    num_classes: int = 1000, dilated: bool = False, reduced_tail: bool = False
) -> MobileNetV3:
    """MobileNetV3-Large; `dilated`, it is the backbone of segmentation models, and with half the
    channels from its last strided block on, `reduced_tail`, that of SSDlite.

    Howard et al., https://arxiv.org/abs/1905.02244.
    """
    settings, head_width = (_REDUCED, 640) if reduced_tail else (_LARGE, 1280)
    return MobileNetV3(settings, head_width, num_classes, dilated)


@register(torchvision=True)
def mobilenet_v3_small(num_classes: int = 1000) -> MobileNetV3:
    """MobileNetV3-Small (Howard et al., https://arxiv.org/abs/1905.02244)."""
    return MobileNetV3(_SMALL, 1024, num_classes)
