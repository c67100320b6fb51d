"""Triton kernels for what PyTorch does slowly in channels_last half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

_LAST = torch.channels_last
_BLOCK = 1024


def pack_channels_last(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """`x` (N, C, H, W) as `dtype` in channels_last, padded with zeros to `channels` channels.

    PyTorch needs two passes for this, and cuDNN a third if it has to add the channels.
    """
    n, c, h, w = x.shape
    if not (x.is_cuda and x.is_contiguous()):
        padded = F.pad(x.to(dtype), (0, 0, 0, 0, 0, channels - c))
        return padded.contiguous(memory_format=_LAST)
    y = torch.empty((n, channels, h, w), dtype=dtype, device=x.device, memory_format=_LAST)
    grid = (n, triton.cdiv(h * w, _BLOCK))
    _pack_channels_last[grid](x, y, h * w, c, channels, _BLOCK)
    return y


@triton.jit
def _pack_channels_last(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, pixels, given: tl.constexpr, channels: tl.constexpr, block: tl.constexpr
):
    """One program packs `block` pixels of one image."""
    image = tl.program_id(0).to(tl.int64)
    pixel = (tl.program_id(1) * block + tl.arange(0, block))[:, None]
    channel = tl.arange(0, channels)[None, :]
    inside = pixel < pixels
    source = x + image * given * pixels + channel * pixels + pixel
    value = tl.load(source, inside & (channel < given), 0.0)
    target = y + (image * pixels + pixel) * channels + channel
    tl.store(target, value.to(y.dtype.element_ty), inside)
