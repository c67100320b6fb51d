"""The reference of deform_conv2d, in PyTorch."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

Pair = tuple[int, int]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """Returns ``torchvision.ops.deform_conv2d`` of tensors of any floating-point type."""
    y: Tensor = torchvision_deform_conv2d(
        input, offset, weight, bias, stride, padding, dilation, mask
    )
    return y
