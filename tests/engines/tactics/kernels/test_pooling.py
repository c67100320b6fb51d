"""Pooled images by their kernel, against PyTorch in float64, and window by window."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from tactics.oracles import HALVES, assert_rounded, values, wide

from trtnet.engines.torch.pooling import Windows, block_for, blocks_for, pool_images, windows_of
from trtnet.engines.torch.tactics.depthwise import Block

LAST = torch.channels_last
FLOATS = (*HALVES, torch.float32)
DOWN, UP = "EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP"
WINDOWS = [  # the size, stride and padding of the window
    ((3, 3), (1, 1), (1, 1)),
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((2, 3), (2, 1), (0, 1)),
    ((1, 1), (2, 2), (0, 0)),
    ((5, 4), (3, 2), (2, 2)),
    ((9, 1), (1, 1), (4, 0)),
    ((3, 10), (2, 2), (1, 5)),
    ((1, 18), (1, 1), (0, 9)),
    ((9, 18), (1, 1), (4, 9)),
]
BLOCKS = [Block(1, 64, 16, 4), Block(2, 32, 8, 2), Block(4, 32, 16, 4)]
CASES = [
    *((which, BLOCKS[which % 3]) for which in range(len(WINDOWS))),
    *((which, block) for which in (0, 2, 5) for block in BLOCKS if block != BLOCKS[which % 3]),
]


def image(*shape, dtype, place):
    return values(0, *shape, dtype=dtype, at=place).contiguous(memory_format=LAST)


def apart(x, window, stride, pre, post, mode, excludes):
    """Each window for itself; `excludes` is None for the largest values."""
    n, c, *size = x.shape
    if mode.startswith("SAME"):
        total = [max((math.ceil(m / s) - 1) * s + k - m, 0)
                 for m, k, s in zip(size, window, stride, strict=True)]  # fmt: skip
        less = [t // 2 for t in total]
        more = [t - half for t, half in zip(total, less, strict=True)]
        pre, post = (less, more) if mode == "SAME_UPPER" else (more, less)
    rounded = math.ceil if mode == UP else math.floor
    made = [rounded((m + a + b - k) / s) + 1
            for m, a, b, k, s in zip(size, pre, post, window, stride, strict=True)]  # fmt: skip
    y = torch.empty(n, c, *made, dtype=x.dtype)
    for index in itertools.product(*map(range, made)):
        begin = [i * s - a for i, s, a in zip(index, stride, pre, strict=True)]
        there = [[p for p in range(b, b + k) if 0 <= p < m]
                 for b, k, m in zip(begin, window, size, strict=True)]  # fmt: skip
        axes = zip(begin, window, size, pre, post, strict=True)
        padded = [[p for p in range(b, b + k) if -a <= p < m + e] for b, k, m, a, e in axes]
        part = x[:, :, there[0]][:, :, :, there[1]].flatten(2)
        if excludes is None:
            y[(..., *index)] = part.amax(2) if part.shape[2] else -math.inf
        else:
            rows, columns = there if excludes else padded
            y[(..., *index)] = part.sum(2) / (max(1, len(rows)) * max(1, len(columns)))
    return y


@pytest.mark.parametrize(("which", "block"), CASES, ids=str)
def test_averages(which, block, place):
    window, stride, padding = WINDOWS[which]
    excludes = bool(which % 2)
    x = image(1, 12, 9, 12, dtype=torch.float16, place=place)
    found = pool_images(
        x, windows_of(x.shape, window, stride, padding, padding, DOWN, excludes), block
    )
    wanted = F.avg_pool2d(wide(x), window, stride, padding, False, not excludes)
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=LAST)
    assert_rounded(found, wanted, x.dtype)


@pytest.mark.parametrize(("which", "block"), CASES, ids=str)
def test_maxima(which, block, place):
    """NaN is kept, and a window of -inf has no larger value."""
    window, stride, padding = WINDOWS[which]
    dtype = (torch.float16, torch.bfloat16, torch.float32)[which % 3]
    x = image(2, 5, 9, 12, dtype=dtype, place=place)
    x[0, :3, 4, 5], x[1, 4] = float("nan"), -float("inf")
    found = pool_images(x, windows_of(x.shape, window, stride, padding, padding, DOWN), block)
    wanted = F.max_pool2d(wide(x), window, stride, padding)
    assert found.dtype is x.dtype
    torch.testing.assert_close(wide(found), wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 7, 1), (3, 33, 1, 9), (1, 130, 3, 3)],
                         ids=str)  # fmt: skip
def test_types_and_odd_sizes(shape, dtype, place):
    x = image(*shape, dtype=dtype, place=place)
    how = windows_of(shape, (3, 3), (1, 1), (1, 1), (1, 1), DOWN, True)
    wanted = F.avg_pool2d(wide(x), 3, 1, 1, count_include_pad=False)
    assert_rounded(pool_images(x, how), wanted, dtype, 8 if dtype is torch.float32 else 1)


@pytest.mark.parametrize("excludes", [None, False, True])
@pytest.mark.parametrize("mode", [DOWN, UP, "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("window", [((3, 2), (2, 3), (1, 0), (0, 1)), ((2, 2), (2, 2), (0, 0),
    (0, 0)), ((2, 4), (3, 3), (1, 2), (2, 1))], ids=str)  # fmt: skip
def test_padding(window, mode, excludes, place):
    """Other paddings behind than ahead, and results that are rounded up."""
    x = image(2, 3, 8, 7, dtype=torch.float32, place=place)
    found = pool_images(x, windows_of(x.shape, *window, mode, excludes))
    wanted = apart(wide(x), *window, mode, excludes)
    assert found.shape == wanted.shape
    assert_rounded(found, wanted, x.dtype, 8)


@pytest.mark.parametrize("excludes", [False, True])
@pytest.mark.parametrize("size", [5, 6, 7, 8])
def test_rounding_up_as_pytorch_does(size, excludes, place):
    """Where the last window begins inside of the padding, PyTorch leaves it out."""
    x = image(1, 4, size, size + 4, dtype=torch.float32, place=place)
    wanted = F.avg_pool2d(wide(x), 3, 2, 1, True, not excludes)
    found = pool_images(x, windows_of(x.shape, (3, 3), (2, 2), (1, 1), (1, 1), UP, excludes))
    assert found.shape == wanted.shape
    assert_rounded(found, wanted, x.dtype, 8)


def test_sums_are_taken_in_float32(place):
    """Half precision has no sum of 25 values of 6e4."""
    x = torch.full((1, 8, 5, 5), 6e4, dtype=torch.float16, device=place)
    how = windows_of(x.shape, (5, 5), (1, 1), (0, 0), (0, 0), DOWN, False)
    found = pool_images(x.contiguous(memory_format=LAST), how)
    assert torch.equal(found.cpu(), torch.full((1, 8, 1, 1), 6e4, dtype=torch.float16))


@pytest.mark.parametrize("channels", [(8, 16, 40), (3, 5, 9)], ids=str)
def test_gaps(channels, place):
    """Some of the channels of an image are read, and written to some of those of another."""
    begin, count, whole = channels
    x = image(2, whole, 6, 5, dtype=torch.float16, place=place)[:, begin : begin + count]
    y = image(2, whole + count, 6, 5, dtype=torch.float16, place=place)
    before, out = y.cpu().clone(), y[:, whole - begin : whole - begin + count]
    how = windows_of(x.shape, (3, 3), (1, 1), (1, 1), (1, 1), DOWN, True)
    assert pool_images(x, how, out=out) is out
    wanted = F.avg_pool2d(wide(x), 3, 1, 1, count_include_pad=False)
    assert_rounded(out, wanted, x.dtype)
    before[:, whole - begin : whole - begin + count] = out.cpu()
    assert torch.equal(y.cpu(), before)


def test_other_layouts_are_refused(place):
    x = values(0, 1, 3, 4, 4, dtype=torch.float16, at=place)
    with pytest.raises(ValueError, match="rows of channels"):
        pool_images(x, windows_of(x.shape, (2, 2), (2, 2), (0, 0), (0, 0), DOWN))


def test_no_images(place):
    x = image(0, 8, 5, 5, dtype=torch.float16, place=place)
    how = windows_of(x.shape, (2, 2), (2, 2), (0, 0), (0, 0), DOWN, True)
    assert pool_images(x, how).shape == (0, 8, 2, 2)


@pytest.mark.parametrize(("shape", "window", "stride", "rows"), [
    ((64, 288, 35, 35), (3, 3), (1, 1), 4), ((64, 64, 73, 73), (3, 3), (2, 2), 2),
    ((16, 256, 80, 80), (2, 2), (2, 2), 1), ((1, 2048, 8, 8), (3, 3), (1, 1), 1),
    ((64, 512, 20, 20), (13, 13), (1, 1), 1)], ids=str)  # fmt: skip
def test_rows_share_what_they_read(shape, window, stride, rows):
    how = Windows(window, stride, (0, 0), shape[2:])
    first, others = block_for(shape, how, 2), blocks_for(shape, how, 2)
    assert first.rows == rows
    assert first not in others
    assert len(others) == len(set(others)) >= 2
