"""RegNetX and RegNetY, in torchvision's form.

Radosavovic et al., Designing Network Design Spaces, https://arxiv.org/abs/2003.13678.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.blocks import Conv2dNormActivation, SqueezeExcitation, make_divisible
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_STEM_WIDTH = 32
_SE_RATIO = 0.25  # of RegNetY's squeeze and excitation, to the block's input channels


class BottleneckTransform(nn.Sequential):
    """1×1, 3×3 in groups [+ squeeze and excitation], 1×1."""

    def __init__(
        self, width_in: int, width_out: int, stride: int, group_width: int, se: bool
    ) -> None:
        groups = width_out // group_width
        layers: dict[str, nn.Module] = {
            "a": Conv2dNormActivation(width_in, width_out, 1),
            "b": Conv2dNormActivation(width_out, width_out, 3, stride, groups=groups),
        }
        if se:
            layers["se"] = SqueezeExcitation(width_out, round(_SE_RATIO * width_in))
        layers["c"] = Conv2dNormActivation(width_out, width_out, 1, activation_layer=None)
        super().__init__(layers)


class ResBottleneckBlock(nn.Module):
    """A :class:`BottleneckTransform` and a shortcut."""

    def __init__(
        self, width_in: int, width_out: int, stride: int, group_width: int, se: bool
    ) -> None:
        super().__init__()
        self.proj = None
        if width_in != width_out or stride != 1:
            self.proj = Conv2dNormActivation(width_in, width_out, 1, stride, activation_layer=None)
        self.f = BottleneckTransform(width_in, width_out, stride, group_width, se)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.proj is None else self.proj(x)
        return self.activation(shortcut + self.f(x))


class RegNet(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Block ``i`` of `depth` is ``w_0 + w_a * i`` channels wide, rounded to ``w_0`` times a power of
    `w_m` and to a multiple of 8; blocks of one width make a stage (equations 2 to 4 of the paper).

    Args:
        group_width: channels in each group of the 3×3 convolutions.
        se: with squeeze and excitation: RegNetY.
    """

    def __init__(
        self,
        depth: int,
        w_0: int,
        w_a: float,
        w_m: float,
        group_width: int,
        num_classes: int = 1000,
        se: bool = False,
    ) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(3, _STEM_WIDTH, 3, stride=2)
        self.trunk_output = nn.Sequential({})
        width_in = _STEM_WIDTH
        stages = Counter(_width(index, w_0, w_a, w_m) for index in range(depth))
        for number, (width, count) in enumerate(stages.items(), 1):
            group = min(group_width, width)
            width_out = make_divisible(width, group)
            stage = nn.Sequential({})
            for index in range(count):
                stride = 1 if index else 2
                block = ResBottleneckBlock(width_in, width_out, stride, group, se)
                stage.add_module(f"block{number}-{index}", block)
                width_in = width_out
            self.trunk_output.add_module(f"block{number}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.trunk_output(self.stem(x))).flatten(1))


def _width(index: int, w_0: int, w_a: float, w_m: float) -> int:
    power = round(math.log((w_0 + w_a * index) / w_0, w_m))
    return 8 * round(w_0 * w_m**power / 8)


@register(torchvision=True)
def regnet_x_400mf(num_classes: int = 1000) -> RegNet:
    """RegNetX-400MF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(22, 24, 24.48, 2.54, 16, num_classes)


@register(torchvision=True)
def regnet_x_800mf(num_classes: int = 1000) -> RegNet:
    """RegNetX-800MF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(16, 56, 35.73, 2.28, 16, num_classes)


@register(torchvision=True)
def regnet_x_1_6gf(num_classes: int = 1000) -> RegNet:
    """RegNetX-1.6GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(18, 80, 34.01, 2.25, 24, num_classes)


@register(torchvision=True)
def regnet_x_3_2gf(num_classes: int = 1000) -> RegNet:
    """RegNetX-3.2GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(25, 88, 26.31, 2.25, 48, num_classes)


@register(torchvision=True)
def regnet_x_8gf(num_classes: int = 1000) -> RegNet:
    """RegNetX-8GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(23, 80, 49.56, 2.88, 120, num_classes)


@register(torchvision=True)
def regnet_x_16gf(num_classes: int = 1000) -> RegNet:
    """RegNetX-16GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(22, 216, 55.59, 2.1, 128, num_classes)


@register(torchvision=True)
def regnet_x_32gf(num_classes: int = 1000) -> RegNet:
    """RegNetX-32GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(23, 320, 69.86, 2.0, 168, num_classes)


@register(torchvision=True)
def regnet_y_400mf(num_classes: int = 1000) -> RegNet:
    """RegNetY-400MF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(16, 48, 27.89, 2.09, 8, num_classes, se=True)


@register(torchvision=True)
def regnet_y_800mf(num_classes: int = 1000) -> RegNet:
    """RegNetY-800MF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(14, 56, 38.84, 2.4, 16, num_classes, se=True)


@register(torchvision=True)
def regnet_y_1_6gf(num_classes: int = 1000) -> RegNet:
    """RegNetY-1.6GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(27, 48, 20.71, 2.65, 24, num_classes, se=True)


@register(torchvision=True)
def regnet_y_3_2gf(num_classes: int = 1000) -> RegNet:
    """RegNetY-3.2GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(21, 80, 42.63, 2.66, 24, num_classes, se=True)


@register(torchvision=True)
def regnet_y_8gf(num_classes: int = 1000) -> RegNet:
    """RegNetY-8GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(17, 192, 76.82, 2.19, 56, num_classes, se=True)


@register(torchvision=True)
def regnet_y_16gf(num_classes: int = 1000) -> RegNet:
    """RegNetY-16GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(18, 200, 106.23, 2.48, 112, num_classes, se=True)


@register(torchvision=True)
def regnet_y_32gf(num_classes: int = 1000) -> RegNet:
    """RegNetY-32GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(20, 232, 115.89, 2.53, 232, num_classes, se=True)


@register(torchvision=True)
def regnet_y_128gf(num_classes: int = 1000) -> RegNet:
    """RegNetY-128GF (Radosavovic et al., https://arxiv.org/abs/2003.13678)."""
    return RegNet(27, 456, 160.83, 2.52, 264, num_classes, se=True)
