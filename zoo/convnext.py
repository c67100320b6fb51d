"""ConvNeXt, in torchvision's form.

Liu et al., A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.blocks import Conv2dNormActivation, Permute, StochasticDepth
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_EPS = 1e-6  # of every LayerNorm


class LayerNorm2d(nn.LayerNorm):
    """Normalizes the channels of (N, C, H, W), at each position."""

    def __init__(self, channels: int, eps: float = _EPS) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    """A depthwise 7×7 convolution, a LayerNorm, a two-layer perceptron at each position, and a
    learned scale per channel; with a shortcut."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, 7, padding=3, groups=dim),
            Permute((0, 2, 3, 1)),
            nn.LayerNorm(dim, eps=_EPS),
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Linear(4 * dim, dim),
            Permute((0, 3, 1, 2)),
        )
        self.layer_scale = nn.Parameter.empty((dim, 1, 1))
        self.stochastic_depth = StochasticDepth()

    def forward(self, x: Tensor) -> Tensor:
        out = self.block(x)
        return self.stochastic_depth(out * out.new_tensor(self.layer_scale)) + x


class ConvNeXt(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Args:
        widths: channels in each stage.
        depths: number of blocks in each stage.
    """

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], num_classes: int = 1000
    ) -> None:
        super().__init__()
        stem = Conv2dNormActivation(3, widths[0], 4, stride=4, padding=0, bias=True,
                                    norm_layer=LayerNorm2d, activation_layer=None)  # fmt: skip
        layers: list[nn.Module] = [stem]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if index:
                narrower = widths[index - 1]
                downsample = nn.Conv2d(narrower, width, 2, stride=2)
                layers.append(nn.Sequential(LayerNorm2d(narrower), downsample))
            layers.append(nn.Sequential(*(CNBlock(width) for _ in range(depth))))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            LayerNorm2d(widths[-1]), nn.Flatten(1), nn.Linear(widths[-1], num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


@register(torchvision=True)
def convnext_tiny(num_classes: int = 1000) -> ConvNeXt:
    """ConvNeXt-T (Liu et al., https://arxiv.org/abs/2201.03545)."""
    return ConvNeXt((96, 192, 384, 768), (3, 3, 9, 3), num_classes)


@register(torchvision=True)
def convnext_small(num_classes: int = 1000) -> ConvNeXt:
    """ConvNeXt-S (Liu et al., https://arxiv.org/abs/2201.03545)."""
    return ConvNeXt((96, 192, 384, 768), (3, 3, 27, 3), num_classes)


@register(torchvision=True)
def convnext_base(num_classes: int = 1000) -> ConvNeXt:
    """ConvNeXt-B (Liu et al., https://arxiv.org/abs/2201.03545)."""
    return ConvNeXt((128, 256, 512, 1024), (3, 3, 27, 3), num_classes)


@register(torchvision=True)
def convnext_large(num_classes: int = 1000) -> ConvNeXt:
    """ConvNeXt-L (Liu et al., https://arxiv.org/abs/2201.03545)."""
    return ConvNeXt((192, 384, 768, 1536), (3, 3, 27, 3), num_classes)
