"""From bytes to a network's input in one pass: resized, normalized, channels first (Triton)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.plugins.shipped.launch import Launch, Shape, Work, blocks, require, run

_ROWS, _COLUMNS, _WARPS = 8, 128, 2
_BLOCK = 1024


def normalize_image(
    images: Tensor,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> Tensor:
    """``(images / 255 - mean) / std``, resized bilinearly to `size` (half-pixel centres, no
    antialiasing), for contiguous CUDA bytes (N, H, W, C).

    Returns:
        (N, C, *size) in `dtype`, FP16 or FP32.
    """
    n, channels = len(images), images.shape[-1]
    y = torch.empty((n, channels, *size), dtype=dtype, device=images.device)
    tensors = {"images": images, "output": y}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    run(plan(shapes, mean, std), tensors)
    return y


def plan(shapes: dict[str, Shape], mean: Sequence[float], std: Sequence[float]) -> Work:
    """What there is to launch for tensors of `shapes`."""
    n, height, width, _ = shapes["images"]
    if shapes["output"][2:] != (height, width):
        return Work((resizing(shapes, mean, std),))
    constants = {**_factors(shapes, mean, std), "block": _BLOCK}
    grid, pixels = n * blocks(height * width, _BLOCK), height * width
    return Work((Launch(_normalize, ("images",), (pixels,), ("output",), constants, grid),))


def resizing(shapes: dict[str, Shape], mean: Sequence[float], std: Sequence[float]) -> Launch:
    """The launch for images of any size, whether or not it is the output's."""
    n, height, width, _ = shapes["images"]
    out_h, out_w = shapes["output"][2:]
    sizes, block = (height, width, out_h, out_w), {"block_rows": _ROWS, "block_columns": _COLUMNS}
    constants = {**_factors(shapes, mean, std), **block}
    grid = n * blocks(out_h, _ROWS) * blocks(out_w, _COLUMNS)
    return Launch(_resize_and_normalize, ("images",), sizes, ("output",), constants, grid, _WARPS)


def _factors(
    shapes: dict[str, Shape], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """What each channel is multiplied by, and what is added; checks the shapes."""
    n, height, width, channels = shapes["images"]
    out_h, out_w = shapes["output"][2:]
    expected: dict[str, Shape] = {
        "images": (n, height, width, len(mean)),
        "output": (n, channels, out_h, out_w),
    }
    require("normalize_image", shapes, expected)
    factors = tuple(1 / (255 * s) for s in std)
    shifts = tuple(-m / s for m, s in zip(mean, std, strict=True))
    return {"factors": factors, "shifts": shifts}


@triton.jit(do_not_specialize=["pixels"])
def _normalize(
    images, pixels, y, factors: tl.constexpr, shifts: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """One program writes `block` pixels of one image."""
    channels: tl.constexpr = len(factors)
    across = tl.cdiv(pixels, block)
    image = (tl.program_id(0) // across).to(tl.int64) * pixels * channels
    pixel = tl.program_id(0) % across * block + tl.arange(0, block)
    inside = pixel < pixels
    for channel in tl.static_range(channels):
        value = tl.load(images + image + pixel * channels + channel, inside).to(tl.float32)
        value = value * factors[channel] + shifts[channel]
        target = y + image + channel * pixels + pixel
        tl.store(target, value.to(y.dtype.element_ty), inside)


@triton.jit
def _between(index, size, out_size):
    """The inputs before and after output `index`, and how far it lies behind the first.

    The position ``(index + 0.5) * size / out_size - 0.5`` is a fraction of integers, so that its
    whole part is exact.
    """
    ahead = tl.maximum((2 * index + 1) * size - out_size, 0)
    first = tl.minimum(ahead // (2 * out_size), size - 1)
    return first, tl.minimum(first + 1, size - 1), (ahead % (2 * out_size)) / (2 * out_size)


@triton.jit(do_not_specialize=["height", "width", "out_h", "out_w"])
def _resize_and_normalize(
    images, height, width, out_h, out_w, y, factors: tl.constexpr, shifts: tl.constexpr,
    block_rows: tl.constexpr, block_columns: tl.constexpr,
):  # fmt: skip
    """One program writes a tile of one image, row by row."""
    channels: tl.constexpr = len(factors)
    across, down = tl.cdiv(out_w, block_columns), tl.cdiv(out_h, block_rows)
    place = tl.program_id(0)
    image = (place // (across * down)).to(tl.int64) * channels
    column = place % across * block_columns + tl.arange(0, block_columns)
    x0, x1, right = _between(column, width, out_w)
    x0, x1 = x0 * channels, x1 * channels
    images += image * height * width
    y += image * out_h * out_w
    for step in tl.static_range(block_rows):
        row = place // across % down * block_rows + step
        y0, y1, below = _between(row, height, out_h)
        upper, lower = images + y0 * width * channels, images + y1 * width * channels
        inside = column < tl.where(row < out_h, out_w, 0)
        for channel in tl.static_range(channels):  # all loads lie inside, also of other columns
            value_00 = tl.load(upper + x0 + channel).to(tl.float32)
            value_01 = tl.load(upper + x1 + channel).to(tl.float32)
            value_10 = tl.load(lower + x0 + channel).to(tl.float32)
            value_11 = tl.load(lower + x1 + channel).to(tl.float32)
            top = value_00 + (value_01 - value_00) * right
            bottom = value_10 + (value_11 - value_10) * right
            value = (top + (bottom - top) * below) * factors[channel] + shifts[channel]
            target = y + (channel * out_h + row) * out_w + column
            tl.store(target, value.to(y.dtype.element_ty), inside)
