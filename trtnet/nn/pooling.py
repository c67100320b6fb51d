"""Pooling layers; the functions are in ``trtnet/ops/pooling.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module
from trtnet.ops.arguments import IntOrInts
from trtnet.ops.pooling import avg_pool, lp_pool, max_pool
from trtnet.ops.pooling_window import Window
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
        Window(self.rank, kernel_size, stride, padding, ceil_mode, dilation)
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return max_pool(
            self.rank,
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
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
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
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


class _LPPoolNd(Module):
    rank: int

    def __init__(
        self,
        norm_type: float,
        kernel_size: IntOrInts,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        Window(self.rank, kernel_size, stride, 0, ceil_mode)
        self.norm_type, self.kernel_size, self.stride = norm_type, kernel_size, stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        window = self.kernel_size, self.stride, self.ceil_mode
        return lp_pool(self.rank, input, self.norm_type, *window)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}"


@export
class LPPool1d(_LPPoolNd):
    """``torch.nn.LPPool1d``; input (N, C, L)."""

    rank = 1


@export
class LPPool2d(_LPPoolNd):
    """``torch.nn.LPPool2d``; input (N, C, H, W)."""

    rank = 2


@export
class LPPool3d(_LPPoolNd):
    """``torch.nn.LPPool3d``; input (N, C, D, H, W)."""

    rank = 3
