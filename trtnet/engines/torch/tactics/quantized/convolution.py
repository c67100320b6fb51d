"""Convolutions of codes by one Triton kernel, as products of the windows of an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch
from trtnet.engines.torch.tactics.linear import Tile
from trtnet.engines.torch.tactics.quantized.finish import Finish, Operands, constants, finish
from trtnet.engines.torch.tactics.quantized.product import multiplied, place_of_tile

Pair = tuple[int, int]


class Window(NamedTuple):
    """Where the window of a convolution goes, in rows and columns."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def size(self, image: tuple[int, ...], kernel: tuple[int, ...]) -> Pair:
        """Rows and columns of the result for an image and a kernel of these rows and columns."""
        high, wide = (
            (image[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1)
            // self.stride[i] + 1 for i in (0, 1)
        )  # fmt: skip
        return high, wide


def convolution(
    x: Tensor, weight: Tensor, window: Window, given: Operands, how: Finish, tile: Tile
) -> Tensor:
    """`how` of a convolution.

    Args:
        x: (N, H, W, C) codes, of any strides but 1 along C, on a CUDA device.
        weight: (O, R, S, C) codes of the same type, without gaps.
        given: `other` of any stride between rows and 1 in them.
        tile: how the kernel works; its depth is of channels.

    Returns:
        (N · rows · columns, O), of the type ``how.dtype``.
    """
    (images, h, w, c), (n, r, s, _) = x.shape, weight.shape
    oh, ow = window.size((h, w), (r, s))
    m = images * oh * ow
    y = torch.empty((m, n), dtype=how.dtype, device=x.device)
    if y.numel() == 0:
        return y
    grid = (triton.cdiv(m, tile.rows) * triton.cdiv(n, tile.columns),)
    launch(
        _convolution, grid,
        x, weight, *given, y, m, n, c, h, w, oh, ow, *x.stride()[:3], r, s,
        *window.stride, *window.padding, *window.dilation,
        n if given.other is None else given.other.stride(0),
        **constants(given, how), is_float=x.dtype is not torch.int8,
        is_padded=window.padding != (0, 0), aligned=alignment(x, window, s),
        is_whole=c % tile.depth == 0, rows=tile.rows, columns=tile.columns, depth=tile.depth,
        num_stages=tile.stages, num_warps=tile.warps, enable_fp_fusion=False,
    )  # fmt: skip
    return y


def alignment(x: Tensor, window: Window, columns: int) -> int:
    """By what the offsets of all pixels that are read can be divided, up to 16."""
    high, wide = x.stride()[1:3]
    steps = [window.stride[1], window.padding[1], window.dilation[1] if columns > 1 else 0]
    return math.gcd(16, high, *(wide * step for step in steps))


@triton.jit(do_not_specialize=["m", "oh", "ow"])
def _convolution(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, weight, scales, bias, term, factor, other, y,
    m, n, c, h, w, oh, ow, x_n, x_h, x_w, window_h, window_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, o_m,
    step, reciprocal, other_step,
    has_bias: tl.constexpr, has_term: tl.constexpr, has_factor: tl.constexpr,
    has_other: tl.constexpr, of_codes: tl.constexpr, to_codes: tl.constexpr,
    divides: tl.constexpr, is_positive: tl.constexpr, middle: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    is_float: tl.constexpr, is_padded: tl.constexpr, aligned: tl.constexpr,
    is_whole: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """One program computes `columns` channels of `rows` pixels, `depth` channels of one position
    of the window after the other."""
    first_row, first_column = place_of_tile(tl.program_id(0), m, n, rows, columns)
    row, column = first_row + tl.arange(0, rows), first_column + tl.arange(0, columns)
    index = tl.arange(0, depth)
    row_in, column_in = row < m, column < n
    image = row // (oh * ow)
    top = (row // ow) % oh * stride_h - padding_h
    left = row % ow * stride_w - padding_w
    start = x + image.to(tl.int64) * x_n + tl.multiple_of(top * x_h + left * x_w, aligned)
    a = start[:, None] + index[None, :]
    b = weight + column.to(tl.int64)[None, :] * (window_h * window_w * c) + index[:, None]
    total = tl.zeros((rows, columns), tl.float32 if is_float else tl.int32)
    down, across, channel = 0, 0, 0
    for _ in range(window_h * window_w * tl.cdiv(c, depth)):
        fits = row_in
        if is_padded:
            y_at, x_at = top + down * dilation_h, left + across * dilation_w
            fits = fits & (y_at >= 0) & (y_at < h) & (x_at >= 0) & (x_at < w)
        moved = down * dilation_h * x_h + across * dilation_w * x_w + channel
        a_at = a + tl.multiple_of(moved, aligned)
        b_at = b + ((down * window_w + across) * c + channel)
        if is_whole:
            pixels = tl.load(a_at, fits[:, None], 0.0)
            kernel = tl.load(b_at, column_in[None, :], 0.0)
        else:
            inside = index < c - channel
            pixels = tl.load(a_at, fits[:, None] & inside[None, :], 0.0)
            kernel = tl.load(b_at, column_in[None, :] & inside[:, None], 0.0)
        total = multiplied(pixels, kernel, total, is_float)
        channel += depth
        is_next = channel >= c
        channel = tl.where(is_next, 0, channel)
        across += is_next.to(tl.int32)
        is_below = across >= window_w
        across = tl.where(is_below, 0, across)
        down += is_below.to(tl.int32)
    finish(
        total, scales, bias, term, factor, other, y, row, column, m, n, o_m,
        step, reciprocal, other_step, has_bias, has_term, has_factor, has_other, of_codes,
        to_codes, divides, is_positive, middle,
        first, first_low, first_high, last, last_low, last_high,
    )  # fmt: skip
