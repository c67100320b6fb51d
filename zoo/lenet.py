"""LeNet-5, with weights for handwritten digits.

LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86
(1998), https://doi.org/10.1109/5.726791. The layers have the paper's names and sizes. They differ
from it in four points: the pooling has no trained coefficients, C3 sees all maps of S2, tanh is
not scaled, and the output is linear (logits) instead of radial basis functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor


class LeNet5(nn.Module):
    """Input (N, 1, 32, 32), values 0 to 1; output (N, num_classes), logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = nn.AvgPool2d(2)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.s2(self.tanh(self.c1(x)))
        x = self.s4(self.tanh(self.c3(x)))
        x = self.tanh(self.c5(x)).flatten(1)
        return self.output(self.tanh(self.f6(x)))


def _twin(num_classes: int = 10) -> torch.nn.Module:
    from trtnet.zoo.torch_lenet import LeNet5 as TorchLeNet5

    return TorchLeNet5(num_classes)


@register(
    input_shape=(1, 32, 32),
    twin=_twin,
    embedded={"DIGITS_V1": "lenet5_digits.safetensors"},
    default_weights="DIGITS_V1",
    fixed_size=True,
)
def lenet5(num_classes: int = 10) -> LeNet5:
    """LeNet-5; weights trained on scikit-learn's digits by ``tools/train_lenet.py``.

    LeCun et al., https://doi.org/10.1109/5.726791.
    """
    return LeNet5(num_classes)
