"""AlexNet, in torchvision's form.

Krizhevsky, One weird trick for parallelizing convolutional neural networks,
https://arxiv.org/abs/1404.5997: the network of 2012 on one GPU, with fewer channels and without
local response normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class AlexNet(nn.Module):
    """Input (N, 3, H, W), at least 63×63, 224×224 in the paper; output (N, num_classes), logits."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@register(torchvision=True)
def alexnet(num_classes: int = 1000) -> AlexNet:
    """AlexNet (Krizhevsky, https://arxiv.org/abs/1404.5997)."""
    return AlexNet(num_classes)
