"""Pooling layers; the functions are in ``trtnet/ops/pooling.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module
from trtnet.ops.arguments import (
    IntOrInts,
    ntuple,
)
from trtnet.ops.pooling import Window, avg_pool, check_max_pool, max_pool
from trtnet.tensor import Tensor


class _MaxPoolNd(Module):
    rank: int

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: Any = None,
        padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        check_max_pool(ntuple(dilation, self.rank, "dilation"), return_indices)
        Window(self.rank, kernel_size, stride, padding, ceil_mode)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.dilation, self.return_indices = dilation, return_indices

    def forward(self, input: Tensor) -> Tensor:
        return max_pool(
            self.rank, input, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


@export
class MaxPool1d(_MaxPoolNd):
    """``torch.nn.MaxPool1d``; input (N, C, L)."""

    rank = 1


@export
class MaxPool2d(_MaxPoolNd):
    """``torch.nn.MaxPool2d``; input (N, C, H, W)."""

    rank = 2


@export
class MaxPool3d(_MaxPoolNd):
    """``torch.nn.MaxPool3d``; input (N, C, D, H, W)."""

    rank = 3


class _AvgPoolNd(Module):
    computes = "pooling"
    rank: int

    def __init__(
        self,
        kernel_size: IntOrInts,
        stride: Any = None,
        padding: IntOrInts = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        Window(self.rank, kernel_size, stride, padding, ceil_mode)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return avg_pool(
            self.rank,
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


@export
class AvgPool1d(_AvgPoolNd):
    """``torch.nn.AvgPool1d``; input (N, C, L)."""

    rank = 1


@export
class AvgPool2d(_AvgPoolNd):
    """``torch.nn.AvgPool2d``; input (N, C, H, W)."""

    rank = 2


@export
class AvgPool3d(_AvgPoolNd):
    """``torch.nn.AvgPool3d``; input (N, C, D, H, W)."""

    rank = 3
