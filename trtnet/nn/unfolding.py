"""Layers that unfold and fold images; the functions are in ``trtnet/ops/unfolding.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module
from trtnet.ops.arguments import IntOrInts
from trtnet.ops.unfolding import Blocks, fold, unfold
from trtnet.tensor import Tensor


@export
class Unfold(Module):
    """``torch.nn.Unfold``; input (N, C, H, W), with or without N."""

    def __init__(
        self,
        kernel_size: IntOrInts,
        dilation: IntOrInts = 1,
        padding: IntOrInts = 0,
        stride: IntOrInts = 1,
    ) -> None:
        super().__init__()
        Blocks(kernel_size, dilation, padding, stride)
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


@export
class Fold(Module):
    """``torch.nn.Fold``; input (N, C * kh * kw, L), with or without N."""

    def __init__(
        self,
        output_size: Any,
        kernel_size: IntOrInts,
        dilation: IntOrInts = 1,
        padding: IntOrInts = 0,
        stride: IntOrInts = 1,
    ) -> None:
        super().__init__()
        Blocks(kernel_size, dilation, padding, stride)
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        window = self.kernel_size, self.dilation, self.padding, self.stride
        return fold(input, self.output_size, *window)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )
