"""Adaptive pooling layers; the functions are in ``trtnet/ops/adaptive.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module
from trtnet.ops.adaptive import (
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    adaptive_pool,
)
from trtnet.tensor import Tensor

_MAXIMUM = {1: adaptive_max_pool1d, 2: adaptive_max_pool2d, 3: adaptive_max_pool3d}


class _AdaptivePoolNd(Module):
    computes = "pooling"
    kind: str
    rank: int

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return adaptive_pool(self.kind, self.rank, input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


@export
class AdaptiveAvgPool1d(_AdaptivePoolNd):
    """``torch.nn.AdaptiveAvgPool1d``; input (N, C, L)."""

    kind, rank = "avg", 1


@export
class AdaptiveAvgPool2d(_AdaptivePoolNd):
    """``torch.nn.AdaptiveAvgPool2d``; input (N, C, H, W)."""

    kind, rank = "avg", 2


@export
class AdaptiveAvgPool3d(_AdaptivePoolNd):
    """``torch.nn.AdaptiveAvgPool3d``; input (N, C, D, H, W)."""

    kind, rank = "avg", 3


class _AdaptiveMaxPoolNd(_AdaptivePoolNd):
    kind = "max"
    computes = ""

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        if self.return_indices:
            return _MAXIMUM[self.rank](input, self.output_size, True)
        return super().forward(input)


@export
class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """``torch.nn.AdaptiveMaxPool1d``; input (N, C, L)."""

    rank = 1


@export
class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """``torch.nn.AdaptiveMaxPool2d``; input (N, C, H, W)."""

    rank = 2


@export
class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """``torch.nn.AdaptiveMaxPool3d``; input (N, C, D, H, W)."""

    rank = 3
