"""A ResNet for images of 32×32, with weights for distorted handwritten digits.

He et al., Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385, section
4.2: for small images the stem is one 3×3 convolution, which keeps the size. The stages are those
of the larger ResNets, at a quarter of their width, with projections as shortcuts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.registry import register
from trtnet.zoo.resnet import BasicBlock, stage

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor


class DigitsResNet(nn.Module):
    """Input (N, 1, 32, 32), values 0 to 1; output (N, num_classes), logits.

    20 layers with weights: the stem, two in each of nine blocks, and the classifier.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(BasicBlock, 16, 16, depth=2, stride=1)
        self.layer2 = stage(BasicBlock, 16, 32, depth=2, stride=2)
        self.layer3 = stage(BasicBlock, 32, 64, depth=2, stride=2)
        self.layer4 = stage(BasicBlock, 64, 128, depth=3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _twin(num_classes: int = 10) -> torch.nn.Module:
    from trtnet.zoo.torch_resnet_digits import DigitsResNet as TorchDigitsResNet

    return TorchDigitsResNet(num_classes)


@register(
    input_shape=(1, 32, 32),
    twin=_twin,
    embedded={"DISTORTED_DIGITS_V1": "resnet20_digits.safetensors"},
    default_weights="DISTORTED_DIGITS_V1",
)
def resnet20_digits(num_classes: int = 10) -> DigitsResNet:
    """ResNet-20; weights trained on distorted digits by ``tools/train_resnet.py``.

    He et al., https://arxiv.org/abs/1512.03385.
    """
    return DigitsResNet(num_classes)
