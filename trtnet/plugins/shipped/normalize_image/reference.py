"""The reference of normalize_image, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def normalize_image(
    images: Tensor,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> Tensor:
    """Returns ``(images / 255 - mean) / std`` of bytes (N, H, W, C), resized to (N, C, *size).

    Computed in at least FP32, with bilinear interpolation, and rounded to `dtype`.
    """
    wide = torch.promote_types(dtype, torch.float32)
    planes = images.permute(0, 3, 1, 2).to(wide)
    if images.numel():
        planes = F.interpolate(planes, size, mode="bilinear")
    else:
        planes = planes.new_empty(*planes.shape[:2], *size)
    middle, spread = (planes.new_tensor(values)[:, None, None] for values in (mean, std))
    return ((planes / 255 - middle) / spread).to(dtype)
