"""Pooling of images in channels_last by a Triton kernel of our own: PyTorch's writes the indices of
maxima, 8 bytes per value, and takes ten times as long for averages as their memory does."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.depthwise import Block
from trtnet.engines.torch.tactics.launching import launch, unit_of
from trtnet.reference import pooling
from trtnet.reference.convolution import Ints, window_padding
from trtnet.reference.dtypes import HALF_DTYPES

Pair = tuple[int, int]

_LAST = torch.channels_last
_FLOATS = (*HALF_DTYPES, torch.float32)
_PLACES = 1 << 31  # output pixels, counted in int32
_TILE = 2048  # bytes of a program: 16 for each of 128 threads
_CHANNELS = 64
_PROGRAMS = 264  # that keep a large GPU busy
_SMALL = 25  # places of a window for which several rows are computed at once
_LARGE = 256  # of one that PyTorch's kernels, with a thread for each value, do better
_CODES = 16  # values of one byte that a thread reads at once


@dataclass(frozen=True)
class Windows:
    """Where windows lie on images.

    Attributes:
        window: its rows and columns.
        stride: from one to the next.
        before: rows and columns of the first window that lie ahead of the image.
        size: rows and columns of the result.
        counted: for rows and for columns the first place that an average counts, and the one behind
            the last; None for the largest value.
    """

    window: Pair
    stride: Pair
    before: Pair
    size: Pair
    counted: tuple[Pair, Pair] | None = None

    @property
    def words(self) -> str:
        """All that is said here, for a problem."""
        what = "largest" if self.counted is None else f"average of {self.counted}"
        return f"{what} {self.window} {self.stride} {self.before} {self.size}"


def max_pool(
    x: Tensor, window: Ints, stride: Ints, pre: Ints, post: Ints, mode: str,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """:func:`trtnet.reference.pooling.max_pool` of images; `out` as in :func:`pool_images`."""
    how = windows_of(x.shape, window, stride, pre, post, mode)
    if x.is_cuda and fits(x, how):
        return pool_images(x, how, out=out)
    if pads_as_pytorch(window, pre, post, mode):
        y = F.max_pool2d(x, window, stride, pre)
    else:
        y = pooling.max_pool(x, window, stride, pre=pre, post=post, mode=mode)
    return y if out is None else out.copy_(y)


def average_pool(
    x: Tensor, window: Ints, stride: Ints, pre: Ints, post: Ints, mode: str, excludes: bool,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """:func:`trtnet.reference.pooling.average_pool` of images, in the type of `x`, rounded once;
    `out` as in :func:`pool_images`."""
    how = windows_of(x.shape, window, stride, pre, post, mode, excludes)
    if x.is_cuda and fits(x, how):
        return pool_images(x, how, out=out)
    if pads_as_pytorch(window, pre, post, mode):
        y = F.avg_pool2d(x, window, stride, pre, False, not excludes)
    else:
        wide = x.float() if x.dtype in HALF_DTYPES else x
        y = pooling.average_pool(
            wide, window, stride, pre=pre, post=post, mode=mode, excludes=excludes
        ).to(x.dtype)
    return y if out is None else out.copy_(y)


def fits(x: Tensor, how: Windows) -> bool:
    """Whether :func:`pool_images` takes `x` on a CUDA device, and is worth it there. The kernel
    counts bands of pixels in int32."""
    if x.dtype not in _FLOATS or math.prod(how.window) > _LARGE:
        return False
    few = x.shape[0] * (how.size[0] + 3) * how.size[1] < _PLACES
    return few and rows_of(x) is not None


def rows_of(x: Tensor) -> Tensor | None:
    """The pixels of images, (N, C, H, W), as rows of channels, between which there may be gaps;
    None where they do not lie so."""
    if x.dim() != 4:
        return None
    try:
        rows = x.permute(0, 2, 3, 1).view(-1, x.shape[1])
    except RuntimeError:  # of another layout, or without channels
        return None
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else None


def pads_as_pytorch(window: Ints, pre: Ints, post: Ints, mode: str) -> bool:
    """Whether PyTorch's functions have these windows."""
    halves = all(2 * p <= k for p, k in zip(pre, window, strict=True))
    return mode == "EXPLICIT_ROUND_DOWN" and tuple(pre) == tuple(post) and halves


def windows_of(
    shape: Ints, window: Ints, stride: Ints, pre: Ints, post: Ints, mode: str,
    excludes: bool | None = None,
) -> Windows:  # fmt: skip
    """The windows of a pooling layer on images of `shape`, (N, C, H, W).

    Args:
        excludes: whether an average counts no padding; None for the largest value.
    """
    size = tuple(shape[-2:])
    before, after = window_padding(size, tuple(window), tuple(stride), pre, post, mode)
    axes = zip(size, window, stride, before, after, strict=True)
    made = [(n + b + a - k) // s + 1 for n, k, s, b, a in axes]
    counted = None
    if excludes is not None:
        # What rounding up adds behind the padding never counts.
        padding = (before, after) if mode.startswith("SAME") else (pre, post)
        ends = ((0, 0), (0, 0)) if excludes else padding
        (top, bottom), (left, right) = zip(*ends, strict=True)
        counted = ((-top, size[0] + bottom), (-left, size[1] + right))
    return Windows(_pair(window), _pair(stride), _pair(before), _pair(made), counted)


def _pair(values: Ints | list[int]) -> Pair:
    first, second = values
    return first, second


def block_for(shape: Ints, how: Windows, itemsize: int) -> Block:
    """What promises most for a result of `shape`, (N, C, OH, OW): what several windows read of a
    column is read once, where there is enough to do for all of a GPU."""
    n, c, oh, ow = shape
    channels = min(_CHANNELS, triton.next_power_of_2(c))
    values = _TILE // min(itemsize, 2)
    rows, stride = 1, how.stride[0]
    if math.prod(how.window) <= _SMALL and stride < how.window[0]:
        rows = 4 if stride == 1 else 2
    while rows > 1 and n * oh * ow * c < _PROGRAMS * values * rows:
        rows //= 2
    return Block(rows, values // channels, channels, 4)


def blocks_for(shape: Ints, how: Windows, itemsize: int) -> tuple[Block, ...]:
    """What promises too, beside :func:`block_for`, for a result of `shape`."""
    first = block_for(shape, how, itemsize)
    overlaps = how.stride[0] < how.window[0] and math.prod(how.window) <= _SMALL
    half = replace(first, pixels=first.pixels // 2, warps=2)
    found = [half, replace(first, pixels=first.pixels * 2)]
    for rows in (2, 1, 4) if overlaps else ():
        found += [replace(first, rows=rows), replace(half, rows=rows)]
    return tuple(block for block in dict.fromkeys(found) if block != first)


def pool_images(
    x: Tensor, how: Windows, block: Block | None = None, out: Tensor | None = None
) -> Tensor:
    """The largest value of each window, NaN where there is one, or the average in float32, rounded
    once.

    Args:
        x: (N, C, H, W) in channels_last, with or without gaps between the pixels, floating or
            integers, on a CUDA device.
        how: the windows.
        block: how a program works; None for what promises most.
        out: where the result is written, which may have gaps too; None for new memory.
    """
    n, c, h, w = x.shape
    oh, ow = how.size
    y = out
    if y is None:
        y = torch.empty((n, c, oh, ow), dtype=x.dtype, device=x.device, memory_format=_LAST)
    if not y.numel():
        return y
    source, target = rows_of(x), rows_of(y)
    if source is None or target is None:
        raise ValueError("the pixels are no rows of channels")
    block = block or block_for(y.shape, how, x.element_size())
    bands = triton.cdiv(oh, block.rows)
    count, parts = n * bands * ow, triton.cdiv(c, block.channels)
    steps = (source.stride(0), target.stride(0))
    codes = x.element_size() == 1 and all(size % _CODES == 0 for size in (c, *steps))
    unit = _CODES if codes else unit_of(c, *steps)
    (top, bottom), (left, right) = how.counted or ((0, 0), (0, 0))
    is_largest, start = how.counted is None, 0.0
    if is_largest:
        start = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    launch(
        _pool, (triton.cdiv(count, block.pixels) * parts,),
        x, y, count, bands, parts, h, w, oh, ow, c // unit, *(step // unit for step in steps),
        *how.before, top, bottom, left, right,
        *how.window, *how.stride, is_largest, start, _middle(x.dtype, is_largest),
        block.rows, block.pixels, block.channels, unit,
        num_warps=block.warps,
    )  # fmt: skip
    return y


def _middle(dtype: torch.dtype, is_largest: bool) -> Any:
    """The type in which values are compared or added, as Triton calls it."""
    narrow = {torch.float16: tl.float16, torch.int8: tl.int8, torch.int32: tl.int32}
    return narrow.get(dtype, tl.float32) if is_largest else tl.float32


@triton.jit
def _with_value(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    total, at, inside, channel_in, is_largest: tl.constexpr, start: tl.constexpr
):
    """`total` and the values at `at`, where they lie inside of the image."""
    inside = inside[:, None] & channel_in[None, :]
    if total.dtype == tl.int8:  # of which a load fills in one byte of -128 in four
        value = tl.where(inside, tl.load(at, inside, 0), start)
    else:
        value = tl.load(at, inside, start).to(total.dtype)
    if is_largest:
        total = tl.maximum(total, value, tl.PropagateNan.ALL)
    else:
        total += value
    return total


@triton.jit
def _of_row(  # type: ignore[no-untyped-def]  # as above
    total, line, row_in, left, w, step, channel_in,
    window_w: tl.constexpr, is_largest: tl.constexpr, start: tl.constexpr,
):  # fmt: skip
    """`total` and what the window has of one row of the image, from `line` on."""
    if window_w <= 16:
        for j in tl.static_range(window_w):
            inside = row_in & (left + j >= 0) & (left + j < w)
            total = _with_value(total, line + j * step, inside, channel_in, is_largest, start)
    else:
        for j in tl.range(window_w):
            inside = row_in & (left + j >= 0) & (left + j < w)
            total = _with_value(total, line + j * step, inside, channel_in, is_largest, start)
    return total


@triton.jit
def _merged(total, line, t: tl.constexpr, window_h: tl.constexpr, is_largest: tl.constexpr):  # type: ignore[no-untyped-def]  # as above
    """`total` and that of a row, if the window has this row."""
    if t >= 0 and t < window_h:
        if is_largest:
            total = tl.maximum(total, line, tl.PropagateNan.ALL)
        else:
            total += line
    return total


@triton.jit(do_not_specialize=["count", "bands", "parts", "h", "w", "oh", "ow", "c", "x_p", "y_p",
                               "before_h", "before_w", "top", "bottom", "left",
                               "right"])  # fmt: skip
def _pool(  # type: ignore[no-untyped-def]  # as above
    x, y, count, bands, parts, h, w, oh, ow, c, x_p, y_p,
    before_h, before_w, top, bottom, left, right,
    window_h: tl.constexpr, window_w: tl.constexpr,
    stride_h: tl.constexpr, stride_w: tl.constexpr,
    is_largest: tl.constexpr, start: tl.constexpr, middle: tl.constexpr,
    rows: tl.constexpr, pixels: tl.constexpr, channels: tl.constexpr, unit: tl.constexpr,
):  # fmt: skip
    """One program computes `pixels` of the `count` columns of bands of `rows` rows, for `channels`
    of the `c` times `unit` channels; from one pixel to the next are `x_p` and `y_p` times `unit`
    values. What windows of one column share of a row is loaded once. Of averages the places from
    `top` to `bottom` and from `left` to `right` are counted."""
    x_p, y_p = x_p.to(tl.int64) * unit, y_p.to(tl.int64) * unit
    place = tl.program_id(0) // parts * pixels + tl.arange(0, pixels)
    channel = tl.program_id(0) % parts * channels + tl.arange(0, channels)
    channel_in = channel < c * unit
    column, band = place % ow, place // ow
    row, image = band % bands * rows, (band // bands).to(tl.int64)
    first_row, first_column = row * stride_h - before_h, column * stride_w - before_w
    line = x + ((image * h + first_row) * w + first_column)[:, None] * x_p + channel[None, :]
    exists = place < count
    nothing = tl.full((pixels, channels), start, middle)
    total_0, total_1, total_2, total_3 = nothing, nothing, nothing, nothing
    if rows == 1 and window_h > 8:
        for i in tl.range(window_h):
            row_in = exists & (first_row + i >= 0) & (first_row + i < h)
            at = line + i * w * x_p
            total_0 = _of_row(
                total_0, at, row_in, first_column, w, x_p, channel_in, window_w, is_largest, start
            )
    else:
        for t in tl.static_range((rows - 1) * stride_h + window_h):
            row_in = exists & (first_row + t >= 0) & (first_row + t < h)
            at = line + t * w * x_p
            value = _of_row(
                nothing, at, row_in, first_column, w, x_p, channel_in, window_w, is_largest, start
            )
            total_0 = _merged(total_0, value, t, window_h, is_largest)
            if rows > 1:
                total_1 = _merged(total_1, value, t - stride_h, window_h, is_largest)
            if rows > 2:
                total_2 = _merged(total_2, value, t - 2 * stride_h, window_h, is_largest)
                total_3 = _merged(total_3, value, t - 3 * stride_h, window_h, is_largest)
    counted_w = tl.minimum(first_column + window_w, right) - tl.maximum(first_column, left)
    for r in tl.static_range(rows):
        total = total_0
        if r == 1:
            total = total_1
        if r == 2:
            total = total_2
        if r == 3:
            total = total_3
        if not is_largest:
            begin = first_row + r * stride_h
            counted_h = tl.minimum(begin + window_h, bottom) - tl.maximum(begin, top)
            counted = tl.maximum(counted_h, 1) * tl.maximum(counted_w, 1)
            total *= (1.0 / counted.to(tl.float32))[:, None]
        at = y + ((image * oh + row + r) * ow + column)[:, None] * y_p + channel[None, :]
        inside = (exists & (row + r < oh))[:, None] & channel_in[None, :]
        tl.store(at, total.to(y.dtype.element_ty), inside)
