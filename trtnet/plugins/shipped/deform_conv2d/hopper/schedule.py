"""Chooses the tiles and launches of the deformable convolution on Hopper GPUs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trtnet.plugins.shipped.triton_launch import blocks

CHANNEL_STEP = 64  # input channels of a step, and both sides of a matrix of weights

# A model of the time on an H200, fitted to measurements.
_LAUNCH_TIME = 6.0  # microseconds of a launch besides its steps
_NEXT_BLOCK_TIME = 4.0  # microseconds until the next block of an SM starts, where each has one tile
_SUMS_PER_TIME = 16384.0  # sums that the blocks of a tile add up in a microsecond
_ALONE_FACTOR = 1.12  # time of a step where a block has an SM of its own, relative to two blocks
_WIDEST_STRIP = 32  # columns


@dataclass(frozen=True)
class HopperTile:
    """What one thread block computes at a time.

    Attributes:
        pixels, out_channels: size of the tile of the output.
        stages, samplers, depth, per_sm: constants of the kernel, see deform_conv2d.cu.
        step: time of one step on an SM of an H200, in microseconds.
        registers: registers of a sampling thread and of a multiplying one; zeros leave the number
            to the compiler.
    """

    pixels: int
    out_channels: int
    stages: int
    samplers: int
    depth: int
    per_sm: int
    step: float
    registers: tuple[int, int] = (0, 0)

    def alone(self) -> HopperTile:
        """Returns this tile with one block per SM."""
        return self if self.per_sm == 1 else replace(self, per_sm=1, registers=(0, 0))

    def shared(self, taps: int) -> int:
        """Returns the bytes of shared memory of a block for a window of `taps` positions.

        With one block per SM that is more than half of the SM's, so that no second block fits.
        """
        matrices = self.stages * 2 * CHANNEL_STEP * (self.pixels + self.out_channels)
        needed = matrices + taps * self.pixels * 12 + self.stages * 16
        return needed if self.per_sm > 1 else max(needed, 116 << 10)


NARROW = HopperTile(128, 64, 2, 128, 4, 2, 0.66, (96, 72))
MIDDLE = HopperTile(64, 128, 3, 128, 4, 2, 0.42)
WIDE = HopperTile(128, 256, 3, 128, 4, 1, 1.10, (184, 160))
TILES = (NARROW, MIDDLE, WIDE)


@dataclass(frozen=True)
class ConvolutionSize:
    """The sizes of a convolution that its time depends on.

    Attributes:
        images, height, width: size of the output.
        groups: number of groups.
        in_group, out_group: input and output channels of one group.
        taps: positions of the window.
    """

    images: int
    height: int
    width: int
    groups: int
    in_group: int
    out_group: int
    taps: int


@dataclass(frozen=True)
class HopperLaunch:
    """What one launch computes.

    Attributes:
        tile: the tile of its blocks.
        split: blocks of the cluster that computes one tile; each takes a part of the input
            channels.
        first, last: range of the pixels, in the order of the strips; `first` is a multiple of 16.
    """

    tile: HopperTile
    split: int
    first: int
    last: int

    def tiles(self, size: ConvolutionSize) -> int:
        """Returns the number of tiles."""
        columns = size.groups * blocks(size.out_group, self.tile.out_channels)
        return blocks(self.last - self.first, self.tile.pixels) * columns

    def time(self, size: ConvolutionSize, sms: int) -> float:
        """Returns the estimated time in microseconds, on a GPU with `sms` SMs."""
        most = sms * 10 // 11 if self.split == 4 else sms  # clusters of four leave SMs unused
        rounds = blocks(self.tiles(size) * self.split, most)
        parts = size.in_group // CHANNEL_STEP // self.split
        tile = self.tile
        steps = (rounds + (_ALONE_FACTOR - 1) * (rounds % tile.per_sm)) * parts * size.taps
        time = _LAUNCH_TIME + steps * tile.step
        if self.split > 1:
            time += _NEXT_BLOCK_TIME * (blocks(rounds, tile.per_sm) - 1)
            time += rounds * tile.pixels * tile.out_channels / _SUMS_PER_TIME
        return time


@dataclass(frozen=True)
class Schedule:
    """All launches of a convolution.

    Attributes:
        strip: columns of a strip. Pixels are ordered strip by strip, so that those of a tile are
            neighbours.
        launches: the launches, in order.
    """

    strip: int
    launches: tuple[HopperLaunch, ...]


@functools.lru_cache(1024)
def schedule(size: ConvolutionSize, sms: int) -> Schedule:
    """Returns the schedule with the shortest estimated time, on a GPU with `sms` SMs."""

    def time(found: Schedule) -> float:
        return _uneven(found.strip, size.width) * _total(found.launches, size, sms)

    strips = range(min(size.width, 4), _WIDEST_STRIP + 1)
    found = [Schedule(strip, tuple(_launches(size, strip, sms))) for strip in strips]
    return min(found, key=lambda each: (time(each), each.launches[-1].last, abs(each.strip - 16)))


def _uneven(strip: int, width: int) -> float:
    """Returns the factor of the time where the pixels of a strip do not fill memory sectors."""
    if strip % 16 == 0 or strip == width:
        return 1.0
    return 1.06 if strip % 8 == 0 else 1.15


def _launches(size: ConvolutionSize, strip: int, sms: int) -> Sequence[HopperLaunch]:
    """Returns the fastest launches for strips of `strip` columns."""
    pixels = size.images * blocks(size.width, strip) * strip * size.height
    splits = [split for split in (1, 2, 4) if size.in_group // CHANNEL_STEP % split == 0]

    def fastest(first: int, last: int) -> HopperLaunch:
        ways = [HopperLaunch(tile, split, first, last) for tile in TILES for split in splits]
        return min(ways, key=lambda launch: launch.time(size, sms))

    columns = size.groups * blocks(size.out_group, WIDE.out_channels)
    whole = blocks(pixels, WIDE.pixels) * columns // sms * sms // columns * WIDE.pixels
    ways = [[fastest(0, pixels)]]
    if 0 < whole < pixels:  # wide tiles as long as they keep all SMs busy
        ways.append([HopperLaunch(WIDE, 1, 0, whole), fastest(whole, pixels)])
    return min(ways, key=lambda launches: _total(launches, size, sms))


def _total(launches: Sequence[HopperLaunch], size: ConvolutionSize, sms: int) -> float:
    """Returns the estimated time of all launches, in microseconds."""
    return sum(launch.time(size, sms) for launch in launches)
