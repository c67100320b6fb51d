"""The reference of roi_align, in PyTorch."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Returns ``torchvision.ops.roi_align`` of any floating-point type; `boxes` is (K, 5)."""
    y: Tensor = torchvision_roi_align(
        input, boxes, output_size, spatial_scale, sampling_ratio, aligned
    )
    return y
