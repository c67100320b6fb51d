"""Triton kernels for what PyTorch does slowly in channels_last half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

Ints = tuple[int, ...]

_LAST = torch.channels_last
_BLOCK = 1024


def max_pool2d(x: Tensor, window: Ints, stride: Ints, padding: Ints) -> Tensor:
    """``F.max_pool2d``, without the indices of the maxima, 8 bytes per value, that it writes."""
    fits = x.is_cuda and x.is_floating_point() and x.is_contiguous(memory_format=_LAST)
    return (pool_images if fits else F.max_pool2d)(x, window, stride, padding)


def pool_images(x: Tensor, window: Ints, stride: Ints, padding: Ints) -> Tensor:
    """The largest value of each window; NaN where there is one.

    Args:
        x: (N, C, H, W) in channels_last, floating or integers, on a CUDA device.
    """
    n, c, h, w = x.shape
    oh, ow = ((h, w)[i] + 2 * padding[i] - window[i] for i in (0, 1))
    oh, ow = oh // stride[0] + 1, ow // stride[1] + 1
    y = torch.empty((n, c, oh, ow), dtype=x.dtype, device=x.device, memory_format=_LAST)
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    if y.numel():
        grid = (n * oh, triton.cdiv(ow * c, _BLOCK))
        _largest[grid](x, y, h, w, oh, ow, c, *window, *stride, *padding, lowest, _BLOCK)
    return y


@triton.jit
def _largest(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, h, w, oh, ow, channels: tl.constexpr,
    window_h: tl.constexpr, window_w: tl.constexpr,
    stride_h: tl.constexpr, stride_w: tl.constexpr,
    padding_h: tl.constexpr, padding_w: tl.constexpr, lowest: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The largest value of each window, of any type that has no value below `lowest`. One program
    computes `block` values of one output row, channels innermost."""
    row = tl.program_id(0)
    image, top = (row // oh).to(tl.int64), (row % oh) * stride_h - padding_h
    place = tl.program_id(1) * block + tl.arange(0, block)
    channel, left = place % channels, place // channels * stride_w - padding_w
    inside = place < ow * channels
    best = tl.full((block,), lowest, x.dtype.element_ty)
    for i in tl.static_range(window_h):
        line = x + (image * h + top + i) * w * channels + channel
        for j in tl.static_range(window_w):
            fits = inside & (top + i >= 0) & (top + i < h) & (left + j >= 0) & (left + j < w)
            value = tl.load(line + (left + j) * channels, fits, 0)
            value = tl.where(fits, value, lowest)  # a load fills int8 with one byte of -128 in four
            best = tl.maximum(best, value, tl.PropagateNan.ALL)
    tl.store(y + row.to(tl.int64) * ow * channels + place, best, inside)


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
def _pack_channels_last(  # type: ignore[no-untyped-def]  # as above
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
