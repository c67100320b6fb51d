"""The class of every pixel, from TensorRT's layers."""

from __future__ import annotations

from typing import Any

from trtnet.dtypes import int32
from trtnet.nn.functional import interpolate
from trtnet.tensor import Tensor


def class_map(logits: Tensor, size: tuple[Any, Any]) -> Tensor:
    """The class, int32, with the largest bilinearly interpolated logit; of equal ones the first.
    `size` may hold Dims. TensorRT has the logits at full size in memory, unless it fuses."""
    return interpolate(logits, size, mode="bilinear").argmax(1).to(int32)
