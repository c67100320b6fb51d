"""The kernel of roi_align, in Triton: it reads many channels of a pixel at once."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.plugins.shipped.layout import to_channels_last
from trtnet.plugins.shipped.triton_launch import (
    LaunchPlan,
    Shape,
    TritonLaunch,
    blocks,
    power_of_2,
    require_shapes,
    run_plan,
)
from trtnet.plugins.symbolic_sizes import SymbolicShape

_BINS, _CHANNELS = 16, 128


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Returns ``torchvision.ops.roi_align`` of CUDA tensors, FP16 or FP32; positions and sums are
    FP32. `input` may be contiguous or channels_last; `boxes` (K, 5) is contiguous and of the same
    type, or FP32, because FP16 cannot hold the corners of large images. The result is written to
    the contiguous tensor `out`; ``None`` allocates one."""
    y = input.new_empty(len(boxes), input.shape[1], *output_size) if out is None else out
    tensors = {"input": input, "boxes": boxes, "output": y}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    is_last = input.is_contiguous(memory_format=torch.channels_last)
    run_plan(plan(shapes, is_last, spatial_scale, sampling_ratio, aligned), tensors)
    return y


def plan(
    shapes: dict[str, Shape],
    channels_last: bool,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> LaunchPlan:
    """Returns the launches for tensors of `shapes`, by name; `channels_last` says whether `input`
    lies in memory as (N, H, W, C)."""
    n, channels, height, width = shapes["input"]
    rois, _, pooled_h, pooled_w = shapes["output"]
    expected: dict[str, SymbolicShape] = {
        "boxes": (rois, 5),
        "output": (rois, channels, pooled_h, pooled_w),
    }
    require_shapes("roi_align", shapes, expected)
    constants: dict[str, Any] = {
        "channels": channels,
        "pooled_h": pooled_h,
        "pooled_w": pooled_w,
        "spatial_scale": spatial_scale,
        "sampling_ratio": sampling_ratio,
        "aligned": aligned,
        "block_bins": _BINS,
        "block_channels": min(max(power_of_2(channels), 16), _CHANNELS),
    }
    grid = rois * blocks(pooled_h * pooled_w, constants["block_bins"])
    grid *= blocks(channels, constants["block_channels"])
    read = ("input" if channels_last else "pixels", "boxes")
    main = TritonLaunch(_roi_align, read, (n, height, width), ("output",), constants, grid)
    if channels_last or not grid:
        return LaunchPlan((main,))
    turn = to_channels_last("input", "pixels", n, channels, height * width)
    return LaunchPlan((turn, main), {"pixels": (n, height, width, channels)})


@triton.jit
def _along(start, length, bins, index, sample, samples, size):
    """Where a sample lies on one axis: the pixels before and after it, how far it is behind the
    first, and whether it lies in the image."""
    step = length / bins
    place = start + index * step + (sample + 0.5) * step / samples
    inside = (place >= -1.0) & (place <= size)
    place = tl.maximum(place, 0.0)
    first = tl.minimum(place.to(tl.int32), size - 1)
    behind = tl.where(first == size - 1, 0.0, place - first)
    return first, tl.minimum(first + 1, size - 1), behind, inside


@triton.jit
def _extent(first, last, bins, sampling_ratio: tl.constexpr, aligned: tl.constexpr):
    """Length of a box along one axis, and the number of samples in each of its bins."""
    length = last - first
    if not aligned:
        length = tl.maximum(length, 1.0)
    samples = sampling_ratio
    if sampling_ratio <= 0:
        samples = tl.ceil(length / bins).to(tl.int32)
    return length, samples


@triton.jit(do_not_specialize=["images", "height", "width"])
def _roi_align(
    x, boxes, images, height, width, y, channels: tl.constexpr,
    pooled_h: tl.constexpr, pooled_w: tl.constexpr, spatial_scale: tl.constexpr,
    sampling_ratio: tl.constexpr, aligned: tl.constexpr,
    block_bins: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """One program computes `block_channels` channels of `block_bins` bins of one box."""
    bins: tl.constexpr = pooled_h * pooled_w
    channel_blocks: tl.constexpr = (channels + block_channels - 1) // block_channels
    bin_blocks: tl.constexpr = (bins + block_bins - 1) // block_bins
    place = tl.program_id(0)
    channel = place % channel_blocks * block_channels + tl.arange(0, block_channels)
    bin = place // channel_blocks % bin_blocks * block_bins + tl.arange(0, block_bins)
    roi = (place // (channel_blocks * bin_blocks)).to(tl.int64)
    shift: tl.constexpr = 0.5 if aligned else 0.0
    box = boxes + roi * 5
    image = tl.load(box).to(tl.int64)
    left = tl.load(box + 1).to(tl.float32) * spatial_scale - shift
    top = tl.load(box + 2).to(tl.float32) * spatial_scale - shift
    right = tl.load(box + 3).to(tl.float32) * spatial_scale - shift
    bottom = tl.load(box + 4).to(tl.float32) * spatial_scale - shift
    length_x, samples_x = _extent(left, right, pooled_w, sampling_ratio, aligned)
    length_y, samples_y = _extent(top, bottom, pooled_h, sampling_ratio, aligned)
    x += image * height * width * channels
    fits = (bin < bins)[:, None] & (channel < channels)[None, :]
    rows = tl.where((image >= 0) & (image < images), samples_y, 0)
    total = tl.zeros((block_bins, block_channels), tl.float32)
    for i in range(rows):
        y0, y1, below, in_y = _along(top, length_y, pooled_h, bin // pooled_w, i, samples_y, height)
        for j in range(samples_x):
            x0, x1, behind, in_x = _along(
                left, length_x, pooled_w, bin % pooled_w, j, samples_x, width
            )
            real = fits & (in_y & in_x)[:, None]
            for corner in tl.static_range(4):
                row = y1 if corner >= 2 else y0
                column = x1 if corner % 2 else x0
                weight = (below if corner >= 2 else 1 - below) * (
                    behind if corner % 2 else 1 - behind
                )
                pixel = ((row * width + column) * channels)[:, None] + channel[None, :]
                total += tl.load(x + pixel, real, 0.0).to(tl.float32) * weight[:, None]
    total /= tl.maximum(samples_x * samples_y, 1)
    target = y + (roi * channels + channel[None, :]) * bins + bin[:, None]
    tl.store(target, total.to(y.dtype.element_ty), fits)
