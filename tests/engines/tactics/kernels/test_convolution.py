"""Convolutions with an epilogue by their kernel, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tactics.oracles import (
    ACTIVATIONS,
    HALVES_OF_PRODUCTS,
    assert_rounded,
    finished,
    values,
    wide,
)

from trtnet.engines.torch.tactics.convolution import TILES, convolution, tiles
from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.linear import Tile
from trtnet.engines.torch.tactics.quantized.convolution import Window

TILE = Tile(16, 32, 16, 2, 4)
SAME = Window((1, 1), (1, 1), (1, 1))


def operands(image, kernel, dtype, place):
    """x (N, H, W, C), weight (O, R, S, C), bias and factor."""
    x = values(0, *image, dtype=dtype, at=place)
    weight = values(1, *kernel, dtype=torch.float32, at=place) / (kernel[1] * kernel[2]) ** 0.5
    weight = weight / kernel[3] ** 0.5
    bias, factor = (values(seed, kernel[0], dtype=dtype, at=place) for seed in (2, 3))
    return x, weight.to(dtype), bias, factor


def expected(x, weight, bias, factor, other, window, how):
    image, kernel = wide(x).permute(0, 3, 1, 2), wide(weight).permute(0, 3, 1, 2)
    y = F.conv2d(image, kernel, None, *window).permute(0, 2, 3, 1).reshape(-1, len(kernel))
    return finished(y, *map(wide, (bias, factor, other)), how)


WINDOWS = {
    "same": ((3, 3), SAME),
    "halves": ((3, 3), Window((2, 2), (1, 1), (1, 1))),
    "dilated": ((3, 2), Window((1, 2), (2, 0), (2, 3))),
    "without padding": ((2, 3), Window((1, 1), (0, 0), (1, 1))),
    "of one": ((1, 1), Window((2, 1), (0, 0), (1, 1))),
    "far": ((5, 5), Window((3, 3), (4, 4), (1, 1))),
}


@pytest.mark.parametrize("channels", [16, 21, 48])
@pytest.mark.parametrize("kind", WINDOWS)
def test_windows(kind, channels, place):
    size, window = WINDOWS[kind]
    x, weight, bias, _ = operands((2, 7, 9, channels), (35, *size, channels), torch.float16, place)
    how = Epilogue(Activation("silu"))
    found = convolution(x, weight, bias, None, None, window, how, TILE)
    assert_rounded(found, expected(x, weight, bias, None, None, window, how), torch.float16)


@pytest.mark.parametrize("dtype", HALVES_OF_PRODUCTS, ids=str)
@pytest.mark.parametrize("first", ACTIVATIONS[::2], ids=lambda how: how.kind)
def test_epilogues(first, dtype, place):
    x, weight, bias, factor = operands((1, 4, 5, 16), (18, 3, 3, 16), dtype, place)
    other = values(5, 20, 30, dtype=dtype, at=place)[:, 4:22]  # with gaps
    how = Epilogue(first, Activation("relu") if first else NOTHING, True, True)
    found = convolution(x, weight, bias, factor, other, SAME, how, TILE)
    assert_rounded(found, expected(x, weight, bias, factor, other, SAME, how), dtype)


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_part_of_the_channels_of_an_image(has_bias, place):
    whole = values(0, 2, 6, 5, 40, dtype=torch.float16, at=place)
    x = whole[..., 16:32]
    _, weight, bias, _ = operands((1, 1, 1, 16), (8, 3, 3, 16), torch.float16, place)
    bias = bias if has_bias else None
    found = convolution(x, weight, bias, None, None, SAME, Epilogue(), TILE)
    wanted = expected(x, weight, bias, None, None, SAME, Epilogue())
    assert_rounded(found, wanted, torch.float16)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles(tile, place):
    x, weight, bias, _ = operands((1, 9, 8, 32), (40, 3, 3, 32), torch.float16, place)
    found = convolution(x, weight, bias, None, None, SAME, Epilogue(), tile)
    wanted = expected(x, weight, bias, None, None, SAME, Epilogue())
    assert_rounded(found, wanted, torch.float16)


@pytest.mark.parametrize("channels", [3, 24, 64, 500])
@pytest.mark.parametrize("rows", [1, 400, 6400, 10**6])
def test_tiles_that_promise_most(rows, channels):
    found = tiles(rows, 64, channels, 9, 100)
    deepest = {3: 16, 24: 32, 64: 64, 500: 64}[channels]
    assert {tile.depth for tile in found} == {deepest}
    assert 1 <= len(found) == len(set(found)) <= len(TILES)
    assert tiles(rows, 64, channels, 9, 1) == found[:1]


def test_nothing(place):
    x, weight, bias, _ = operands((0, 4, 5, 16), (18, 3, 3, 16), torch.float16, place)
    assert convolution(x, weight, bias, None, None, SAME, Epilogue(), TILE).shape == (0, 18)
