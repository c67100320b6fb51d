"""Resizing by PyTorch's own kernels."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.layer_context import integers
from trtnet.reference.resize import interpolate

_ALIGN_CORNERS = {"HALF_PIXEL": False, "ALIGN_CORNERS": True}


def resize(x: Tensor, size: Any, **options: Any) -> Tensor:
    """:func:`trtnet.reference.resize.interpolate` in the type of `x`, rounded once.

    Images are resized in one pass, and without tables that the host makes: those could not be
    captured in a CUDA graph.
    """
    if _is_bilinear(x, size, options):
        corners = _ALIGN_CORNERS[options["transformation"]]
        return F.interpolate(x, integers(size)[2:], mode="bilinear", align_corners=corners)
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
