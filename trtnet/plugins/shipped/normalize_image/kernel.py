"""The kernel of normalize_image, in Triton: it resizes and normalizes in one pass."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.plugins.shipped.triton_launch import (
    LaunchPlan,
    TritonLaunch,
    blocks,
    require_shapes,
    run_plan,
)
from trtnet.plugins.symbolic_sizes import SymbolicShape

_ROWS, _COLUMNS, _WARPS, _REGISTERS = 12, 256, 2, 48
_AHEAD = 2  # rows that are prefetched
_TOGETHER = 512  # pixels of one step, where the size does not change


def normalize_image(
    images: Tensor,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> Tensor:
    """Returns ``(images / 255 - mean) / std``, resized bilinearly to `size` (half-pixel centres, no
    antialiasing), for contiguous CUDA bytes (N, H, W, C).

    Returns:
        (N, C, *size) in `dtype`, FP16 or FP32.
    """
    n, channels = len(images), images.shape[-1]
    y = torch.empty((n, channels, *size), dtype=dtype, device=images.device)
    tensors = {"images": images, "output": y}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    run_plan(plan(shapes, mean, std), tensors)
    return y


def plan(
    shapes: Mapping[str, SymbolicShape], mean: Sequence[float], std: Sequence[float]
) -> LaunchPlan:
    """Returns the launches for tensors of `shapes`, by name."""
    n, height, width, _ = shapes["images"]
    out_h, out_w = shapes["output"][2:]
    constants = {
        **_factors(shapes, mean, std),
        "block_rows": _ROWS,
        "block_columns": _COLUMNS,
        "together": _TOGETHER,
        "ahead": 0 if os.environ.get("TRITON_INTERPRET") == "1" else _AHEAD,  # no PTX there
    }
    sizes, grid = (height, width, out_h, out_w), n * blocks(out_h, _ROWS) * blocks(out_w, _COLUMNS)
    io = (("images",), sizes, ("output",))
    launch = TritonLaunch(_resize_and_normalize, *io, constants, grid, _WARPS, registers=_REGISTERS)
    return LaunchPlan((launch,))


def _factors(
    shapes: Mapping[str, SymbolicShape], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """Checks the shapes; returns the factor and the summand of each channel."""
    n, height, width, channels = shapes["images"]
    out_h, out_w = shapes["output"][2:]
    expected: dict[str, SymbolicShape] = {
        "images": (n, height, width, len(mean)),
        "output": (n, channels, out_h, out_w),
    }
    require_shapes("normalize_image", shapes, expected)
    factors = tuple(1 / (255 * s) for s in std)
    shifts = tuple(-m / s for m, s in zip(mean, std, strict=True))
    return {"factors": factors, "shifts": shifts}


@triton.jit
def _between(index, size, out_size):
    """The input before output `index`, and how far that lies behind it; 0 if there is no next.

    The position ``(index + 0.5) * size / out_size - 0.5`` is a fraction of integers, so that its
    whole part is exact.
    """
    ahead = tl.maximum((2 * index + 1) * size - out_size, 0).to(tl.uint32)
    parts = (2 * out_size).to(tl.uint32)
    first = tl.minimum((ahead // parts).to(tl.int32), size - 1)
    behind = (ahead % parts).to(tl.float32) * (1.0 / parts.to(tl.float32))
    return first, tl.where(first + 1 < size, behind, 0.0)


@triton.jit
def _word(words, index, i: tl.constexpr, end, tail, near_end: tl.constexpr):
    if near_end:
        return tl.load(words + index + i, index + i < end, tail).to(tl.uint64)
    else:
        return tl.load(words + index + i).to(tl.uint64)


@triton.jit
def _pixels(images, start, x, end, tail, channels: tl.constexpr, near_end: tl.constexpr):
    """The bytes of the pixel `x` bytes after `start` and of the next one, as words of four.

    `end` counts the whole words of `images`; `tail` is what is left after them.
    """
    words = images.to(tl.pointer_type(tl.uint32)) + (start >> 2)
    end = tl.minimum(end - (start >> 2), 0x3FFFFFFF).to(tl.int32)
    place = x + (start.to(tl.int32) & 3)
    index, shift = place >> 2, ((place & 3) * 8).to(tl.uint64)
    before = _word(words, index, 0, end, tail, near_end)
    shifted = tl.tuple(())
    for i in tl.static_range(1, (channels + 1) // 2 + 1):
        word = _word(words, index, i, end, tail, near_end)
        shifted += (((word << 32 | before) >> shift).to(tl.uint32),)
        before = word
    return shifted


@triton.jit
def _byte(words, place: tl.constexpr):
    """2^23 more than the byte, by its bits: quicker than a conversion, and exact."""
    byte = (words[place // 4] >> (place % 4 * 8)) & 255
    return (byte | 0x4B000000).to(tl.float32, bitcast=True)


@triton.jit
def _across(images, start, x, right, end, tail, channels: tl.constexpr, near_end: tl.constexpr):
    """Each channel between two pixels of the row at byte `start`."""
    words = _pixels(images, start, x, end, tail, channels, near_end)
    values = tl.tuple(())
    for channel in tl.static_range(channels):
        value = _byte(words, channel)
        step = _byte(words, channel + channels) - value
        values += ((value - 8388608.0) + step * right,)
    return values


@triton.jit
def _prefetch(images, start, span, lanes: tl.constexpr):
    """Brings `span` bytes from `start` on into the L2 cache."""
    place = images + start + tl.minimum(32 * tl.arange(0, lanes), span - 1)
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [place],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit
def _tile(
    images, image, size, height, width, out_h, out_w, y, line, left, factors: tl.constexpr,
    shifts: tl.constexpr, block_rows: tl.constexpr, block_columns: tl.constexpr,
    ahead: tl.constexpr, near_end: tl.constexpr,
):  # fmt: skip
    """Writes `block_rows` rows; of two that follow each other, the second keeps what it shares.

    What is loaded are words, since bytes would need as many loads as there are bytes. If not
    `near_end`, all words of pixels, and some behind, lie within the `size` bytes of the images.
    """
    channels: tl.constexpr = len(factors)
    column = left + tl.arange(0, block_columns)
    first, _ = _between(left, width, out_w)
    final, _ = _between(tl.minimum(left + block_columns, out_w) - 1, width, out_w)
    # Of images that shrink by much, most of what is prefetched would not be used.
    reach = tl.where(width < 2 * out_w, height, 0)
    x, right = _between(column, width, out_w)
    x *= channels
    pitch = width * channels
    end, tail = size >> 2, tl.zeros((), tl.uint32)
    if near_end:
        for i in tl.static_range(3):
            at = 4 * end + i
            tail |= tl.load(images + at, at < size, 0).to(tl.uint32) << (8 * i)
    lower, _ = _between(line, height, out_h)
    bottom = _across(images, image + lower * pitch, x, right, end, tail, channels, near_end)
    for step in range(block_rows):
        row = line + step
        upper, below = _between(row, height, out_h)
        if not near_end:
            for i in tl.static_range(2, 2 + ahead):
                if upper + i < reach:
                    start = image + (upper + i) * pitch + first * channels
                    _prefetch(images, start, (final - first + 1) * channels, block_columns // 4)
        if upper == lower:
            top = bottom
        else:
            top = _across(images, image + upper * pitch, x, right, end, tail, channels, near_end)
        lower = tl.minimum(upper + 1, height - 1)
        bottom = _across(images, image + lower * pitch, x, right, end, tail, channels, near_end)
        inside = column < tl.where(row < out_h, out_w, 0)
        for channel in tl.static_range(channels):
            value = top[channel] + (bottom[channel] - top[channel]) * below
            value = value * factors[channel] + shifts[channel]
            target = y + (channel * out_h + row) * out_w + column
            tl.store(target, value.to(y.dtype.element_ty), inside)


@triton.jit
def _same_size(
    images, image, pixels, y, first, factors: tl.constexpr, shifts: tl.constexpr,
    count: tl.constexpr, together: tl.constexpr,
):  # fmt: skip
    """Writes `count` pixels from the `first` one on."""
    channels: tl.constexpr = len(factors)
    for step in range(count // together):
        pixel = first + step * together + tl.arange(0, together)
        inside = pixel < pixels
        for channel in tl.static_range(channels):
            value = tl.load(images + image + pixel * channels + channel, inside).to(tl.float32)
            value = value * factors[channel] + shifts[channel]
            target = y + channel * pixels + pixel
            tl.store(target, value.to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["height", "width", "out_h", "out_w"])
def _resize_and_normalize(
    images, height, width, out_h, out_w, y, factors: tl.constexpr, shifts: tl.constexpr,
    block_rows: tl.constexpr, block_columns: tl.constexpr, together: tl.constexpr,
    ahead: tl.constexpr,
):  # fmt: skip
    """One program writes a tile of one image, or as many pixels that follow one another."""
    channels: tl.constexpr = len(factors)
    across, down = tl.cdiv(out_w, block_columns), tl.cdiv(out_h, block_rows)
    place = tl.program_id(0)
    image = (place // (across * down)).to(tl.int64) * channels
    count = (tl.num_programs(0) // (across * down)).to(tl.int64)
    left = place % across * block_columns
    line = place // across % down * block_rows
    y += image * out_h * out_w
    image *= height * width
    size = count * height * width * channels
    lowest, _ = _between(line + block_rows - 1, height, out_h)
    reached = image + tl.minimum(lowest + 2, height) * width * channels
    if (height == out_h) & (width == out_w):
        each: tl.constexpr = block_rows * block_columns
        first = place % (across * down) * each
        _same_size(images, image, height * width, y, first, factors, shifts, each, together)
    elif reached + 2 * channels + 6 <= size:
        _tile(
            images, image, size, height, width, out_h, out_w, y, line, left, factors, shifts,
            block_rows, block_columns, ahead, False,
        )  # fmt: skip
    else:
        _tile(
            images, image, size, height, width, out_h, out_w, y, line, left, factors, shifts,
            block_rows, block_columns, ahead, True,
        )  # fmt: skip
