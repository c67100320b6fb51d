"""Resizing by PyTorch's own kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.layer_context import integers
from trtnet.reference.resize import interpolate, nearest, source_positions

_REPEATED = (*HALF_DTYPES, torch.float32, torch.float64)  # types that PyTorch's kernel has
_ALIGN_CORNERS = {"HALF_PIXEL": False, "ALIGN_CORNERS": True}


def resize(x: Tensor, size: Any, **options: Any) -> Tensor:
    """:func:`trtnet.reference.resize.interpolate` in the type of `x`, rounded once.

    Images are resized in one pass where one of PyTorch's kernels means the same.
    """
    if _is_bilinear(x, size, options):
        corners = _ALIGN_CORNERS[options["transformation"]]
        return F.interpolate(x, integers(size)[2:], mode="bilinear", align_corners=corners)
    if _is_repetition(x, size, options):
        return F.interpolate(x, integers(size)[2:], mode="nearest")
    if options["mode"] == "NEAREST":  # copies values, which no type rounds
        return interpolate(x, size, **options)
    wide = x.float() if x.dtype in HALF_DTYPES else x
    return interpolate(wide, size, **options).to(x.dtype)


def _is_bilinear(x: Tensor, size: Any, options: dict[str, Any]) -> bool:
    """Whether PyTorch means the same by "bilinear"."""
    return (
        x.dim() == 4
        and size is not None
        and integers(size)[:2] == x.shape[:2]
        and options["mode"] == "LINEAR"
        and options["transformation"] in _ALIGN_CORNERS
        and options["selector"] == "FORMULA"
        and not options["exclude_outside"]
    )


def _is_repetition(x: Tensor, size: Any, options: dict[str, Any]) -> bool:
    """Whether each pixel is repeated 1, 2, 4, 8 ... times in both directions, which PyTorch's
    kernel does as well: its scales, in float32, are exact then."""
    if options["mode"] != "NEAREST" or x.dim() != 4 or size is None or x.dtype not in _REPEATED:
        return False
    target = integers(size)
    return target[:2] == x.shape[:2] and all(
        _repeats(x.shape[axis], target[axis], options) for axis in (2, 3)
    )


def _repeats(n: int, count: int, options: dict[str, Any]) -> bool:
    times, rest = divmod(count, n) if n else (0, 0)
    if rest or times < 1 or times & (times - 1):
        return False
    how = (options["transformation"], options["selector"])
    taken = nearest(source_positions(n, count, None, *how), options["rounding"]).clamp(0, n - 1)
    return torch.equal(taken, torch.arange(count) // times)
