"""The U-Net of :mod:`trtnet.zoo.segmentation.unet` in PyTorch: what it is trained with and
compared to."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class DoubleConv(nn.Module):
    """Two 3×3 convolutions that keep the image's size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))


class UNet(nn.Module):
    """Input (N, 3, H, W) of any H and W.

    Output ``out``, logits (N, num_classes, H, W), or with `argmax` ``classes``, int32 (N, H, W).
    """

    def __init__(self, num_classes: int = 5, argmax: bool = False) -> None:
        super().__init__()
        channels = (3, 16, 32, 64, 96, 96)
        self.encoder = nn.ModuleList([DoubleConv(a, b) for a, b in pairwise(channels)])
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for deep, shallow in pairwise(channels[:0:-1]):
            self.up.append(nn.ConvTranspose2d(deep, shallow, 2, stride=2))
            self.decoder.append(DoubleConv(2 * shallow, shallow))
        self.classifier = nn.Conv2d(16, num_classes, 1)
        self.argmax = argmax

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.encoder[0](x)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            height, width = skip.shape[2:]
            x = block(torch.cat([skip, up(x)[:, :, :height, :width]], 1))
        logits = self.classifier(x)
        return {"classes": logits.argmax(1).int()} if self.argmax else {"out": logits}
