"""The native form of class_map, from TensorRT's layers."""

from __future__ import annotations

from typing import Any

from trtnet.dtypes import int32
from trtnet.nn.functional import interpolate
from trtnet.tensor import Tensor


def class_map(logits: Tensor, size: tuple[Any, Any]) -> Tensor:
    """Returns the class with the largest bilinearly interpolated logit, int32, (N, *size).

    Of equal logits the first class wins. `size` may hold Dims. Unless TensorRT fuses the layers,
    the logits at full size are in memory.
    """
    return interpolate(logits, size, mode="bilinear").argmax(1).to(int32)
