"""The order of deform_conv2d's work on Hopper GPUs: what it covers, and what it wastes."""

from __future__ import annotations

import pytest

from trtnet.plugins.shipped.deform_conv2d.hopper.schedule import TILES, ConvolutionSize, schedule

SMS = 132  # of an H200


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 50, 33), (16, 25, 25), (8, 64, 64), (8, 100, 152)])
@pytest.mark.parametrize("out", [1, 64, 65, 256, 300, 512])
@pytest.mark.parametrize("parts", [1, 3, 4, 8])
def test_every_pixel_is_computed_once(size: tuple[int, int, int], out: int, parts: int) -> None:
    images, height, width = size
    found = schedule(ConvolutionSize(*size, 2, 64 * parts, out, 9), SMS)
    strips = -(-width // found.strip)
    reached = 0
    for part in found.launches:
        assert part.first == reached < part.last
        assert part.first % 16 == 0
        assert part.tile in TILES
        assert parts % part.split == 0  # every block of a cluster has as many
        assert (
            part.tiles(ConvolutionSize(*size, 1, 64, 1, 9)) * part.tile.pixels
            >= part.last - part.first
        )
        reached = part.last
    assert reached == images * height * strips * found.strip >= images * height * width


def test_few_tiles_are_split_and_those_that_fill_a_gpu_are_not() -> None:
    few = schedule(ConvolutionSize(1, 25, 38, 1, 512, 512, 9), SMS)
    full = schedule(ConvolutionSize(33, 16, 32, 1, 512, 256, 9), SMS)  # 128 pixels for each SM
    assert few.launches[0].split > 1
    assert [part.split for part in full.launches] == [1]


def test_no_other_tile_is_estimated_faster() -> None:
    job = ConvolutionSize(8, 64, 64, 1, 256, 256, 9)
    [found] = schedule(job, SMS).launches
    for tile in TILES:
        other = type(found)(tile, found.split, found.first, found.last)
        assert found.time(job, SMS) <= other.time(job, SMS)
