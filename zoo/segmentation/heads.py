"""Class maps from the logits of segmentation models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


def class_map(logits: Tensor) -> Tensor:
    """The class of every pixel, INT32 (N, H, W), from logits (N, classes, H, W); of equal logits
    the first."""
    return logits.argmax(1).int()
