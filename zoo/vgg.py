"""VGG with and without BatchNorm, in torchvision's form.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
https://arxiv.org/abs/1409.1556.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_WIDTHS = (64, 128, 256, 512, 512)  # channels of each stage: table 1 of the paper


def _features(depths: Sequence[int], batch_norm: bool) -> nn.Sequential:
    """Stages of `depths` 3×3 convolutions, each followed by a pooling that halves the image."""
    layers: list[nn.Module] = []
    channels = 3
    for depth, width in zip(depths, _WIDTHS, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, stride=2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Input (N, 3, H, W), at least 32×32, 224×224 in the paper; output (N, num_classes), logits.

    Args:
        depths: number of convolutions in each of the five stages.
        batch_norm: whether a BatchNorm follows every convolution.
    """

    def __init__(
        self, depths: Sequence[int], num_classes: int = 1000, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.features = _features(depths, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@register(torchvision=True)
def vgg11(num_classes: int = 1000) -> VGG:
    """VGG-11: configuration A of the paper.

    Simonyan and Zisserman, https://arxiv.org/abs/1409.1556.
    """
    return VGG((1, 1, 2, 2, 2), num_classes)


@register(torchvision=True)
def vgg11_bn(num_classes: int = 1000) -> VGG:
    """VGG-11 with BatchNorm (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)."""
    return VGG((1, 1, 2, 2, 2), num_classes, batch_norm=True)


@register(torchvision=True)
def vgg13(num_classes: int = 1000) -> VGG:
    """VGG-13: configuration B of the paper.

    Simonyan and Zisserman, https://arxiv.org/abs/1409.1556.
    """
    return VGG((2, 2, 2, 2, 2), num_classes)


@register(torchvision=True)
def vgg13_bn(num_classes: int = 1000) -> VGG:
    """VGG-13 with BatchNorm (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)."""
    return VGG((2, 2, 2, 2, 2), num_classes, batch_norm=True)


@register(torchvision=True)
def vgg16(num_classes: int = 1000) -> VGG:
    """VGG-16: configuration D of the paper.

    Simonyan and Zisserman, https://arxiv.org/abs/1409.1556.
    """
    return VGG((2, 2, 3, 3, 3), num_classes)


@register(torchvision=True)
def vgg16_bn(num_classes: int = 1000) -> VGG:
    """VGG-16 with BatchNorm (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)."""
    return VGG((2, 2, 3, 3, 3), num_classes, batch_norm=True)


@register(torchvision=True)
def vgg19(num_classes: int = 1000) -> VGG:
    """VGG-19: configuration E of the paper.

    Simonyan and Zisserman, https://arxiv.org/abs/1409.1556.
    """
    return VGG((2, 2, 4, 4, 4), num_classes)


@register(torchvision=True)
def vgg19_bn(num_classes: int = 1000) -> VGG:
    """VGG-19 with BatchNorm (Simonyan and Zisserman, https://arxiv.org/abs/1409.1556)."""
    return VGG((2, 2, 4, 4, 4), num_classes, batch_norm=True)
