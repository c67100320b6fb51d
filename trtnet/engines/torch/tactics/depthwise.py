"""``epilogue(depthwise convolution)`` in channels_last by one Triton kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import activate
from trtnet.engines.torch.tactics.epilogue import Epilogue
from trtnet.engines.torch.tactics.launching import launch, unit_of

Pair = tuple[int, int]

_AT_ONCE = 264  # programs: two for each processor of a large GPU


@dataclass(frozen=True)
class Block:
    """How one program works: it computes `pixels` of `rows` (1, 2 or 4) for `channels`."""

    rows: int
    pixels: int
    channels: int
    warps: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.pixels}x{self.channels}w{self.warps}"


BLOCKS = (
    Block(1, 8, 64, 4),
    Block(4, 8, 64, 4),
    Block(1, 16, 32, 2),
    Block(4, 16, 32, 4),
    Block(2, 8, 64, 4),
    Block(4, 4, 64, 2),
    Block(1, 4, 64, 2),
    Block(1, 16, 64, 4),
    Block(4, 16, 64, 8),
    Block(2, 16, 32, 4),
    Block(1, 8, 128, 4),
    Block(4, 8, 128, 8),
    Block(1, 4, 32, 1),
    Block(2, 4, 64, 2),
)


def is_small(images: int, rows: int, columns: int, channels: int) -> bool:
    """Whether a result of this size has so few programs that the GPU runs all at once, even by the
    first block, the programs of which have the least work."""
    first = BLOCKS[0]
    sizes = (rows, first.rows), (columns, first.pixels), (channels, first.channels)
    return images * math.prod(-(-size // part) for size, part in sizes) <= _AT_ONCE


def depthwise(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    epilogue: Epilogue,
    block: Block,
) -> Tensor:
    """``epilogue(conv2d(x, kernel, groups=C) + bias)``.

    Args:
        x: (N, C, H, W) in channels_last, on a CUDA device.
        kernel: (KH, KW, C), of the type of `x`.
        bias: (C,).
        epilogue: without factor and other tensor.
        block: how.

    Returns:
        (N, C, OH, OW) in channels_last.
    """
    n, c, h, w = x.shape
    window = kernel.shape[:2]
    sizes = zip((h, w), window, stride, padding, dilation, strict=True)
    oh, ow = ((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sizes)
    y = torch.empty(
        (n, c, oh, ow), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    if y.numel() == 0:
        return y
    bands = triton.cdiv(oh, block.rows)
    grid = (n * bands, triton.cdiv(ow, block.pixels), triton.cdiv(c, block.channels))
    first, unit = epilogue.first, unit_of(c)
    launch(
        _depthwise, grid,
        x, kernel, bias, y, h, w, oh, ow, c // unit, bands, *window, *stride, *padding, *dilation,
        bias is not None, first.kind, first.low, first.high,
        block.rows, block.pixels, block.channels, unit,
        num_warps=block.warps,
    )  # fmt: skip
    return y


@triton.jit
def _added(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    total, value, at, channel_in, row: tl.constexpr, span: tl.constexpr, dilation: tl.constexpr,
    step,
):  # fmt: skip
    """`total` and the products of `value` with row `row` of the window, where it has one; `span`
    are the rows with those that the dilation leaves out."""
    if row >= 0 and row < span and row % dilation == 0:
        factor = tl.load(at + row // dilation * step, channel_in, 0.0)
        total = tl.fma(value, factor.to(tl.float32)[None, :], total)
    return total


@triton.jit(do_not_specialize=["h", "w", "oh", "ow", "c", "bands"])
def _depthwise(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, kernel, bias, y, h, w, oh, ow, c, bands,
    window_h: tl.constexpr, window_w: tl.constexpr,
    stride_h: tl.constexpr, stride_w: tl.constexpr,
    padding_h: tl.constexpr, padding_w: tl.constexpr,
    dilation_h: tl.constexpr, dilation_w: tl.constexpr,
    has_bias: tl.constexpr,
    kind: tl.constexpr, low: tl.constexpr, high: tl.constexpr,
    rows: tl.constexpr, pixels: tl.constexpr, channels: tl.constexpr, unit: tl.constexpr,
):  # fmt: skip
    """One program computes `pixels` of each of `rows` output rows for `channels` of the `c` times
    `unit` channels. What it loads of an input row goes into all the output rows that need it.

    Places and masks are written such that those of a column are equal for all rows, and each
    product is added by one operation: the time in which this compiles grows with the cube of the
    number of operations.
    """
    c = c * unit
    image, row = (tl.program_id(0) // bands).to(tl.int64), (tl.program_id(0) % bands) * rows
    column = tl.program_id(1) * pixels + tl.arange(0, pixels)
    channel = tl.program_id(2) * channels + tl.arange(0, channels)
    channel_in = channel < c
    top, left = row * stride_h - padding_h, column * stride_w - padding_w
    total_0 = tl.zeros((pixels, channels), tl.float32)
    total_1 = tl.zeros((pixels, channels), tl.float32)
    total_2 = tl.zeros((pixels, channels), tl.float32)
    total_3 = tl.zeros((pixels, channels), tl.float32)
    span: tl.constexpr = window_h * dilation_h  # input rows, from the first to behind the last
    step: tl.constexpr = window_w
    for t in tl.static_range((rows - 1) * stride_h + (window_h - 1) * dilation_h + 1):
        line = x + (image * h + top + t) * w * c
        row_in = (top + t >= 0) & (top + t < h)
        for j in tl.static_range(window_w):
            place = left + j * dilation_w
            inside = ((place >= 0) & (place < w))[:, None] & channel_in[None, :]
            value = tl.load(line + (place[:, None] * c + channel[None, :]), inside & row_in, 0.0)
            value = value.to(tl.float32)
            at = kernel + j * c + channel
            total_0 = _added(total_0, value, at, channel_in, t, span, dilation_h, step * c)
            if rows > 1:
                total_1 = _added(
                    total_1, value, at, channel_in, t - stride_h, span, dilation_h, step * c
                )
            if rows > 2:
                total_2 = _added(
                    total_2, value, at, channel_in, t - 2 * stride_h, span, dilation_h, step * c
                )
                total_3 = _added(
                    total_3, value, at, channel_in, t - 3 * stride_h, span, dilation_h, step * c
                )
    term = tl.zeros((channels,), tl.float32)
    if has_bias:
        term = tl.load(bias + channel, channel_in, 0.0).to(tl.float32)
    for r in tl.static_range(rows):
        total = total_0
        if r == 1:
            total = total_1
        if r == 2:
            total = total_2
        if r == 3:
            total = total_3
        total = activate(total + term[None, :], kind, low, high)
        place = ((image * oh + row + r) * ow + column)[:, None] * c + channel[None, :]
        inside = ((column < ow) & (row + r < oh))[:, None] & channel_in[None, :]
        tl.store(y + place, total.to(y.dtype.element_ty), inside)
