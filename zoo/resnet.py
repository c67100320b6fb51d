"""ResNet, ResNeXt and Wide ResNet, in torchvision's form.

He et al., Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385;
Xie et al., Aggregated Residual Transformations, https://arxiv.org/abs/1611.05431;
Zagoruyko and Komodakis, Wide Residual Networks, https://arxiv.org/abs/1605.07146.

As in torchvision, a bottleneck has its stride in the 3×3 convolution ("ResNet v1.5"), where the
paper has it in the first 1×1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


_NOT_DILATED = (False, False, False)  # each of the last three stages halves the size


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: ResNet-18 and -34."""

    expansion = 1

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(in_channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut: ResNet-50 and deeper.

    Args:
        planes: a quarter of the output channels.
        groups, width_per_group: of the 3×3 convolution, which has
            ``planes * width_per_group / 64 * groups`` channels.
        dilation: of the 3×3 convolution.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        groups: int = 1,
        width_per_group: int = 64,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        width, out_channels = planes * width_per_group // 64 * groups, planes * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation,
                               groups=groups, bias=False)  # fmt: skip
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = _downsample(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """A projection for the shortcut where the block changes the shape."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


def stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    planes: int,
    depth: int,
    stride: int,
    dilations: tuple[int, int] = (1, 1),
    **block_args: Any,
) -> nn.Sequential:
    """`depth` blocks, the first of them with `stride`; `dilations` of the first and of the others,
    which only a :class:`Bottleneck` has."""

    def make(channels: int, stride: int, dilation: int) -> nn.Module:
        dilated = {"dilation": dilation} if dilation > 1 else {}
        return block(channels, planes, stride, **dilated, **block_args)

    first, others = dilations
    rest = (make(planes * block.expansion, 1, others) for _ in range(depth - 1))
    return nn.Sequential(make(in_channels, stride, first), *rest)


class ResNet(nn.Module):
    """Input (N, 3, H, W), 224×224 in the paper; output (N, num_classes), logits.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        depths: number of blocks in each of the four stages.
        replace_stride_with_dilation: for each of the last three stages, whether it keeps the
            size of its input: its stride of 2 becomes a dilation, twice that of before, of all
            blocks from its second on. Yu and Koltun, https://arxiv.org/abs/1511.07122.
        block_args: further arguments of `block`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int = 1000,
        replace_stride_with_dilation: Sequence[bool] = _NOT_DILATED,
        **block_args: Any,
    ) -> None:
        super().__init__()
        dilations = [1, 1]  # up to and with each stage, the stem being the first
        for replaced in replace_stride_with_dilation:
            dilations.append(dilations[-1] * (2 if replaced else 1))

        def part(number: int, in_channels: int, planes: int) -> nn.Sequential:
            first, others = dilations[number - 1 : number + 1]
            stride = 1 if number == 1 or others > first else 2
            return stage(block, in_channels, planes, depths[number - 1], stride, (first, others),
                         **block_args)  # fmt: skip

        expansion = block.expansion
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = part(1, 64, 64)
        self.layer2 = part(2, 64 * expansion, 128)
        self.layer3 = part(3, 128 * expansion, 256)
        self.layer4 = part(4, 256 * expansion, 512)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * expansion, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


@register(torchvision=True)
def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18 (He et al., https://arxiv.org/abs/1512.03385)."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes)


@register(torchvision=True)
def resnet34(num_classes: int = 1000) -> ResNet:
    """ResNet-34 (He et al., https://arxiv.org/abs/1512.03385)."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes)


@register(torchvision=True)
def resnet50(
    num_classes: int = 1000, replace_stride_with_dilation: Sequence[bool] = _NOT_DILATED
) -> ResNet:
    """ResNet-50; dilated, see :class:`ResNet`, it is the backbone of segmentation models.

    He et al., https://arxiv.org/abs/1512.03385.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, replace_stride_with_dilation)


@register(torchvision=True)
def resnet101(
    num_classes: int = 1000, replace_stride_with_dilation: Sequence[bool] = _NOT_DILATED
) -> ResNet:
    """ResNet-101; dilated, see :class:`ResNet`, it is the backbone of segmentation models.

    He et al., https://arxiv.org/abs/1512.03385.
    """
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, replace_stride_with_dilation)


@register(torchvision=True)
def resnet152(num_classes: int = 1000) -> ResNet:
    """ResNet-152 (He et al., https://arxiv.org/abs/1512.03385)."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes)


@register(torchvision=True)
def resnext50_32x4d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-50, 32 groups of 4 channels (Xie et al., https://arxiv.org/abs/1611.05431)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, groups=32, width_per_group=4)


@register(torchvision=True)
def resnext101_32x8d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-101, 32 groups of 8 channels (Xie et al., https://arxiv.org/abs/1611.05431)."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, groups=32, width_per_group=8)


@register(torchvision=True)
def resnext101_64x4d(num_classes: int = 1000) -> ResNet:
    """ResNeXt-101, 64 groups of 4 channels (Xie et al., https://arxiv.org/abs/1611.05431)."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, groups=64, width_per_group=4)


@register(torchvision=True)
def wide_resnet50_2(num_classes: int = 1000) -> ResNet:
    """Wide ResNet-50-2: twice the channels in the 3×3 convolutions.

    Zagoruyko and Komodakis, https://arxiv.org/abs/1605.07146.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, width_per_group=128)


@register(torchvision=True)
def wide_resnet101_2(num_classes: int = 1000) -> ResNet:
    """Wide ResNet-101-2: twice the channels in the 3×3 convolutions.

    Zagoruyko and Komodakis, https://arxiv.org/abs/1605.07146.
    """
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, width_per_group=128)
