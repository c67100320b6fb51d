"""``epilogue(conv2d(x))`` by one Triton kernel, as products of the windows of an image."""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import store_finished
from trtnet.engines.torch.tactics.epilogue import Epilogue
from trtnet.engines.torch.tactics.launching import launch
from trtnet.engines.torch.tactics.linear import Tile, estimate
from trtnet.engines.torch.tactics.quantized.convolution import Window, alignment
from trtnet.engines.torch.tactics.quantized.product import place_of_tile

LEAST_CHANNELS = 16  # of an image: a product on tensor cores has so many at once

# Few, and of one depth: each is compiled for each stride and epilogue of a network.
TILES = (
    Tile(32, 32, 64, 4, 4),
    Tile(64, 32, 64, 5, 4),
    Tile(64, 64, 64, 4, 4),
    Tile(128, 32, 64, 4, 4),
    Tile(128, 64, 64, 4, 4),
    Tile(128, 128, 64, 3, 8),
)
_HOPELESS = 1.25  # times as long as the best, by the estimate: not worth being compiled


def tiles(rows: int, columns: int, channels: int, positions: int, count: int) -> list[Tile]:
    """The tiles that promise most for a convolution, best first, `count` at most.

    Args:
        rows: pixels of the results.
        columns: their channels.
        channels: of the images.
        positions: of a window.
    """
    deepest = max(LEAST_CHANNELS, 1 << (channels - 1).bit_length())
    times = {}
    for tile in (replace(x, depth=min(x.depth, deepest)) for x in TILES):
        depth = positions * -(-channels // tile.depth) * tile.depth
        times[tile] = estimate(tile, rows, columns, depth)
    longest = _HOPELESS * min(times.values())
    return [x for x in sorted(times, key=times.__getitem__) if times[x] <= longest][:count]


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    window: Window,
    epilogue: Epilogue,
    tile: Tile,
    out: Tensor | None = None,
) -> Tensor:
    """``epilogue(conv2d(x, weight) + bias)``.

    Args:
        x: (N, H, W, C), of any strides but 1 along C; half precision on a CUDA device.
        weight: (O, R, S, C), without gaps.
        bias, factor: (O,).
        other: (N · rows · columns, O), of any stride between rows and 1 in them.
        tile: how; its depth is of channels.
        out: as the result, where it is written, of any stride between rows and 1 in them.

    Returns:
        (N · rows · columns, O), of the type of `x`; `out` where that is given.
    """
    (images, h, w, c), (n, r, s, _) = x.shape, weight.shape
    oh, ow = window.size((h, w), (r, s))
    m = images * oh * ow
    y = torch.empty((m, n), dtype=x.dtype, device=x.device) if out is None else out
    if y.numel() == 0:
        return y
    first, last = epilogue.first, epilogue.last
    grid = (triton.cdiv(m, tile.rows) * triton.cdiv(n, tile.columns),)
    launch(
        _convolution, grid,
        x, weight, bias, factor, other, y, m, n, c, h, w, oh, ow, *x.stride()[:3],
        n if other is None else other.stride(0), y.stride(0),
        bias is not None, factor is not None, other is not None,
        first.kind, first.low, first.high, last.kind, last.low, last.high,
        r, s, *window.stride, *window.padding, *window.dilation, alignment(x, window, s),
        c % tile.depth == 0, tile.rows, tile.columns, tile.depth,
        num_stages=tile.stages, num_warps=tile.warps,
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["m", "h", "w", "oh", "ow"])
def _convolution(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, weight, bias, factor, other, y, m, n, c, h, w, oh, ow, x_n, x_h, x_w, o_m, y_m,
    has_bias: tl.constexpr, has_factor: tl.constexpr, has_other: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    window_h: tl.constexpr, window_w: tl.constexpr, stride_h: tl.constexpr,
    stride_w: tl.constexpr, padding_h: tl.constexpr, padding_w: tl.constexpr,
    dilation_h: tl.constexpr, dilation_w: tl.constexpr, aligned: tl.constexpr,
    is_whole: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """One program computes `columns` channels of `rows` pixels, `depth` channels of one position
    of the window after the other."""
    first_row, first_column = place_of_tile(tl.program_id(0), m, n, rows, columns)
    row, column = first_row + tl.arange(0, rows), first_column + tl.arange(0, columns)
    step = tl.arange(0, depth)
    row_in, column_in = row < m, column < n
    image = row // (oh * ow)
    top = (row // ow) % oh * stride_h - padding_h
    left = row % ow * stride_w - padding_w
    start = x + image.to(tl.int64) * x_n + tl.multiple_of(top * x_h + left * x_w, aligned)
    a = start[:, None] + step[None, :]
    b = weight + column.to(tl.int64)[None, :] * (window_h * window_w * c) + step[:, None]
    total = tl.zeros((rows, columns), tl.float32)
    down, across, channel = 0, 0, 0
    for _ in range(window_h * window_w * tl.cdiv(c, depth)):
        y_at, x_at = top + down * dilation_h, left + across * dilation_w
        fits = row_in & (y_at >= 0) & (y_at < h) & (x_at >= 0) & (x_at < w)
        moved = down * dilation_h * x_h + across * dilation_w * x_w + channel
        a_at = a + tl.multiple_of(moved, aligned)
        b_at = b + ((down * window_w + across) * c + channel)
        if is_whole:
            pixels = tl.load(a_at, fits[:, None], 0.0)
            kernel = tl.load(b_at, column_in[None, :], 0.0)
        else:
            inside = step < c - channel
            pixels = tl.load(a_at, fits[:, None] & inside[None, :], 0.0)
            kernel = tl.load(b_at, column_in[None, :] & inside[:, None], 0.0)
        total = tl.dot(pixels, kernel, total)
        channel += depth
        is_next = channel >= c
        channel = tl.where(is_next, 0, channel)
        across += is_next.to(tl.int32)
        is_below = across >= window_w
        across = tl.where(is_below, 0, across)
        down += is_below.to(tl.int32)
    at = y + row.to(tl.int64)[:, None] * y_m + column[None, :]
    store_finished(
        total, bias, factor, other, at, row, column, row_in, column_in, o_m,
        has_bias, has_factor, has_other, first, first_low, first_high, last, last_low, last_high,
    )  # fmt: skip
