"""U-Net, with weights for drawn shapes.

Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation,
https://arxiv.org/abs/1505.04597. As in the paper, two 3×3 convolutions per level, transposed
convolutions on the way up, and skip connections by concatenation. Unlike there, convolutions are
padded and have a BatchNorm each, and widths are a fraction of the paper's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from trtnet import nn, ops
from trtnet.zoo.registry import register
from trtnet.zoo.segmentation.heads import class_map

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

WIDTHS = (16, 32, 64, 96, 96)  # channels, from the full image to a sixteenth of its edges


class DoubleConv(nn.Module):
    """Two 3×3 convolutions that keep the image's size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))


class UNet(nn.Module):
    """Input (N, 3, H, W) of any H and W.

    Output ``out``, logits (N, num_classes, H, W), or with `argmax` ``classes``, INT32 (N, H, W).
    """

    def __init__(self, num_classes: int = 5, argmax: bool = False) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([DoubleConv(a, b) for a, b in pairwise((3, *WIDTHS))])
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for deep, shallow in pairwise(reversed(WIDTHS)):
            self.up.append(nn.ConvTranspose2d(deep, shallow, 2, stride=2))
            self.decoder.append(DoubleConv(2 * shallow, shallow))
        self.classifier = nn.Conv2d(WIDTHS[0], num_classes, 1)
        self.argmax = argmax

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.encoder[0](x)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            # An odd size was rounded up on the way down.
            height, width = skip.shape[2:]
            x = block(ops.cat([skip, up(x)[:, :, :height, :width]], 1))
        logits = self.classifier(x)
        return {"classes": class_map(logits)} if self.argmax else {"out": logits}


def _twin(num_classes: int = 5, argmax: bool = False) -> torch.nn.Module:
    from trtnet.zoo.segmentation.torch_unet import UNet as TorchUNet

    return TorchUNet(num_classes, argmax)


@register(
    input_shape=(3, 128, 128),
    twin=_twin,
    embedded={"SHAPES_V1": "unet_shapes.safetensors"},
    default_weights="SHAPES_V1",
    task="segmentation",
)
def unet(num_classes: int = 5, argmax: bool = False) -> UNet:
    """A small U-Net; weights trained on drawn shapes by ``tools/train_unet.py``.

    Ronneberger et al., https://arxiv.org/abs/1505.04597.
    """
    return UNet(num_classes, argmax)
