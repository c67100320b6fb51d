"""GoogLeNet (Inception v1) with BatchNorm, in torchvision's form.

Szegedy et al., Going Deeper with Convolutions, https://arxiv.org/abs/1409.4842. As in torchvision,
the "5×5" branch has a 3×3 convolution. The auxiliary classifiers serve training alone: they are
left out, and their weights in a state_dict are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.zoo.pretrained import Pretrained
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

# Mean and standard deviation of ImageNet's channels.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BasicConv2d(nn.Module):
    """A convolution, BatchNorm and ReLU; `conv_args` are the convolution's."""

    def __init__(self, in_channels: int, out_channels: int, **conv_args: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **conv_args)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.bn(self.conv(x)))


def renormalising(sha256: str) -> Pretrained:
    """torchvision's weights that come from TensorFlow and need :func:`transform_input`.

    Args:
        sha256: see :class:`trtnet.zoo.pretrained.Pretrained`.
    """
    return Pretrained("IMAGENET1K_V1", sha256, {"transform_input": True})


def transform_input(x: Tensor) -> Tensor:
    """Images normalised with ImageNet's statistics as normalised with mean and deviation 0.5,
    as TensorFlow does it: torchvision's pretrained weights come from there."""
    mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in (_MEAN, _STD))
    return x * (std / 0.5) + (mean - 0.5) / 0.5


class Inception(nn.Module):
    """Four branches side by side: 1×1, 1×1 and 3×3, the same again, pooling and 1×1.

    Args:
        ch1x1, ch3x3, ch5x5, pool_proj: output channels of each branch.
        ch3x3red, ch5x5red: channels before the 3×3 convolution of the second and third.
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, ch3x3red, kernel_size=1),
            BasicConv2d(ch3x3red, ch3x3, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, ch5x5red, kernel_size=1),
            BasicConv2d(ch5x5red, ch5x5, kernel_size=3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, pool_proj, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return ops.cat([branch(x) for branch in branches], 1)


class GoogLeNet(nn.Module):
    """Input (N, 3, H, W), at least 15×15, 224×224 in the paper; output (N, num_classes), logits.

    Args:
        transform_input: renormalise the images: see :func:`transform_input`.
    """

    ignored_keys = ("aux1.*", "aux2.*")

    def __init__(self, num_classes: int = 1000, transform_input: bool = False) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.transform_input:
            x = transform_input(x)
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = self.maxpool4(self.inception4e(self.inception4d(x)))
        x = self.inception5b(self.inception5a(x))
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


def _twin(**model_args: Any) -> torch.nn.Module:
    from torchvision.models import googlenet

    model: torch.nn.Module = googlenet(
        weights=None, aux_logits=False, init_weights=False, **model_args
    )
    return model


@register(torchvision=True, pretrained=[renormalising("1378be20")], twin=_twin)
def googlenet(num_classes: int = 1000, transform_input: bool = False) -> GoogLeNet:
    """GoogLeNet (Szegedy et al., https://arxiv.org/abs/1409.4842)."""
    return GoogLeNet(num_classes, transform_input)
