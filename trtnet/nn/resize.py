"""Resizing layers; the functions are in ``trtnet/ops/resize.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module
from trtnet.ops.resize import check_mode, interpolate
from trtnet.tensor import Tensor


@export
class Upsample(Module):
    """``torch.nn.Upsample``."""

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        check_mode(mode, align_corners, False)
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        return f"size={self.size}, scale_factor={self.scale_factor}, mode={self.mode!r}"


@export
class UpsamplingNearest2d(Upsample):
    """``torch.nn.UpsamplingNearest2d``; input (N, C, H, W)."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


@export
class UpsamplingBilinear2d(Upsample):
    """``torch.nn.UpsamplingBilinear2d``: the corners are aligned; input (N, C, H, W)."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", align_corners=True)
