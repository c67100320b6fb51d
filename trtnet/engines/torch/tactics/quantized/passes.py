"""Kernels of one pass over codes: how values become codes, and the layers that keep them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.pooling import pool_images, windows_of
from trtnet.engines.torch.tactics.launching import launch
from trtnet.engines.torch.tactics.linear import Tile
from trtnet.engines.torch.tactics.quantized.finish import (
    TRITON_TYPES,
    Finish,
    Operands,
    Step,
    constants,
    encoded,
    finish,
    rounded,
)

_BLOCK = 1024
_CHANNELS = 4  # of packed images


def encode(x: Tensor, step: Step, dtype: torch.dtype) -> Tensor:
    """The codes of `x`, in its layout.

    Args:
        x: of any shape, without gaps, on a CUDA device.
        dtype: int8 or float8_e4m3fn.
    """
    y = torch.empty_like(x, dtype=dtype)
    if x.numel():
        launch(_encode, (triton.cdiv(x.numel(), _BLOCK),), x, y, x.numel(), *step,
               step.reciprocal == 0, _BLOCK, enable_fp_fusion=False)  # fmt: skip
    return y


@triton.jit
def _encode(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, count, step, reciprocal, divides: tl.constexpr, block: tl.constexpr
):
    """One program encodes `block` values."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < count
    value = tl.load(x + place, inside, 0.0).to(tl.float32)
    tl.store(
        y + place, encoded(value, step, reciprocal, divides, False, y.dtype.element_ty), inside
    )


class Packing(NamedTuple):
    """Images of few channels, so that a row of a window lies together.

    Attributes:
        height, width: of an image with its padding.
        above, before: rows and columns of zeros before the first.
        positions: of a window in a row, those that are skipped included.
        taps: columns of a window, to which zeros of the kernel may be added.
    """

    height: int
    width: int
    above: int
    before: int
    positions: int
    taps: int

    @property
    def channels(self) -> int:
        """Of a position: those of all columns of a window."""
        return self.taps * _CHANNELS


def packed_kernel(codes: Tensor, taps: int) -> Tensor:
    """A kernel (O, C, R, S) for packed images: (O, R, 1, taps · 4)."""
    out, channels, rows, columns = codes.shape
    made = codes.new_zeros((out, rows, taps, _CHANNELS))
    made[:, :, :columns, :channels] = codes.permute(0, 2, 3, 1)
    return made.view(out, rows, 1, taps * _CHANNELS)


def pack(x: Tensor, step: Step, dtype: torch.dtype, how: Packing) -> Tensor:
    """The codes of images, with a row of a window as the channels of each position: overlapping.

    Args:
        x: (N, C, H, W), without gaps, on a CUDA device; C up to 4.

    Returns:
        (N, height, positions, taps · 4), the strides of which are those of channels.
    """
    n, c, h, w = x.shape
    y = torch.empty((n, how.height, how.width, _CHANNELS), dtype=dtype, device=x.device)
    if y.numel():
        pixels = how.height * how.width
        launch(
            _pack, (triton.cdiv(pixels, _BLOCK), n),
            x, y, h, w, how.width, pixels, how.above, how.before, *step, step.reciprocal == 0,
            c, _CHANNELS, _BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    strides = (y.stride(0), y.stride(1), _CHANNELS, 1)
    return y.as_strided((n, how.height, how.positions, how.channels), strides)


@triton.jit
def _pack(  # type: ignore[no-untyped-def]  # as above
    x, y, h, w, width, pixels, above, before, step, reciprocal,
    divides: tl.constexpr, given: tl.constexpr, channels: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program packs `block` pixels of one image."""
    image = tl.program_id(1).to(tl.int64)
    pixel = (tl.program_id(0) * block + tl.arange(0, block))[:, None]
    channel = tl.arange(0, channels)[None, :]
    top, left = pixel // width - above, pixel % width - before
    inside = (top >= 0) & (top < h) & (left >= 0) & (left < w) & (channel < given)
    source = x + image * given * h * w + (channel * h + top) * w + left
    value = tl.load(source, inside & (pixel < pixels), 0.0).to(tl.float32)
    code = encoded(value, step, reciprocal, divides, False, y.dtype.element_ty)
    tl.store(y + (image * pixels + pixel) * channels + channel, code, pixel < pixels)


def pool(
    x: Tensor, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """The largest code of each window: ``F.max_pool2d`` of codes, (N, C, H, W)."""
    if not x.is_cuda or x.dtype is not torch.int8:
        return F.max_pool2d(x.float(), window, stride, padding).to(x.dtype)
    how = windows_of(x.shape, window, stride, padding, padding, "EXPLICIT_ROUND_DOWN")
    return pool_images(x.contiguous(memory_format=torch.channels_last), how)


def mean_codes(x: Tensor, size: float, how: Finish, rows: int, channels: int) -> Tensor:
    """The mean of each image and channel, as codes or as values.

    Args:
        x: (N, P, C) codes of step `size`, P pixels; without gaps, on a CUDA device.
        how: whose `middle` and `step` count.
        rows, channels: that a program reads at a time; powers of 2.

    Returns:
        (N, C).
    """
    n, pixels, c = x.shape
    y = torch.empty((n, c), dtype=how.dtype, device=x.device)
    if y.numel():
        step = how.step or Step(1.0, 1.0)
        launch(
            _mean_codes, (n, triton.cdiv(c, channels)),
            x, y, pixels, c, size, *step, how.step is not None, step.reciprocal == 0,
            TRITON_TYPES[how.middle], rows, channels, enable_fp_fusion=False,
        )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["pixels"])
def _mean_codes(  # type: ignore[no-untyped-def]  # as above
    x, y, pixels, c, size, step, reciprocal, to_codes: tl.constexpr, divides: tl.constexpr,
    middle: tl.constexpr, rows: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    """One program sums up `channels` channels of one image."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * channels + tl.arange(0, channels)
    row = tl.arange(0, rows)
    total = tl.zeros((rows, channels), tl.float32)
    for start in range(0, pixels, rows):
        inside = ((start + row) < pixels)[:, None] & (channel < c)[None, :]
        at = x + (image * pixels + start + row)[:, None] * c + channel[None, :]
        total += rounded(tl.load(at, inside, 0.0).to(tl.float32) * size, middle)
    mean = rounded(tl.sum(total, 0) / pixels, middle)
    if to_codes:
        code = encoded(mean, step, reciprocal, divides, False, y.dtype.element_ty)
        tl.store(y + image * c + channel, code, channel < c)
    else:
        tl.store(y + image * c + channel, mean.to(y.dtype.element_ty), channel < c)


def finish_sums(sums: Tensor, given: Operands, how: Finish, tile: Tile) -> Tensor:
    """`how` of `sums`, (M, N), without gaps; in a pass of its own."""
    m, n = sums.shape
    y = torch.empty((m, n), dtype=how.dtype, device=sums.device)
    if y.numel():
        grid = (triton.cdiv(m, tile.rows), triton.cdiv(n, tile.columns))
        launch(
            _finish_sums, grid,
            sums, *given, y, m, n, n if given.other is None else given.other.stride(0),
            **constants(given, how), rows=tile.rows, columns=tile.columns,
            num_warps=tile.warps, enable_fp_fusion=False,
        )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["m"])
def _finish_sums(  # type: ignore[no-untyped-def]  # as above
    sums, scales, bias, term, factor, other, y, m, n, o_m, step, reciprocal, other_step,
    has_bias: tl.constexpr, has_term: tl.constexpr, has_factor: tl.constexpr,
    has_other: tl.constexpr, of_codes: tl.constexpr, to_codes: tl.constexpr,
    divides: tl.constexpr, is_positive: tl.constexpr, middle: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """One program finishes `rows` by `columns` sums."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    place = row.to(tl.int64)[:, None] * n + column[None, :]
    given = tl.load(sums + place, (row < m)[:, None] & (column < n)[None, :], 0.0)
    finish(
        given, scales, bias, term, factor, other, y, row, column, m, n, o_m,
        step, reciprocal, other_step, has_bias, has_term, has_factor, has_other, of_codes,
        to_codes, divides, is_positive, middle,
        first, first_low, first_high, last, last_low, last_high,
    )  # fmt: skip
