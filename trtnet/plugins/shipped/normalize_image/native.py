"""The native form of normalize_image, from TensorRT's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, float32
from trtnet.nn.functional import interpolate
from trtnet.tensor import Tensor, same_sizes


def normalize_image(
    images: Tensor,
    size: tuple[Any, Any],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: DType = float32,
) -> Tensor:
    """Returns ``(images / 255 - mean) / std`` of bytes (N, H, W, C), resized to (N, C, *size).

    Computed in float32, with bilinear interpolation; any size may be a Dim.
    """
    planes = images.to(float32).permute(0, 3, 1, 2)
    if not same_sizes(planes.shape[2:], size):
        planes = interpolate(planes, size, mode="bilinear")
    middle, spread = (np.array(values, np.float64)[:, None, None] for values in (mean, std))
    factor, shift = (array.astype(np.float32) for array in (1 / (255 * spread), -middle / spread))
    return (planes * factor + shift).to(dtype)
