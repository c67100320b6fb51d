"""In which tiles the kernel for Hopper computes a deformable convolution, and in which order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trtnet.plugins.shipped.launch import blocks

PART = 64  # input channels of a step, and both sides of a matrix of weights
_START = 6.0  # microseconds of a launch besides its steps
_AGAIN = 4.0  # of the next blocks on an SM, where each has one tile
_ADD_UP = 16384.0  # sums that the blocks of a tile add up in a microsecond
_ALONE = 1.12  # how much longer the steps of one of two blocks take that has its SM for itself
_WIDEST = 32  # columns of a strip


@dataclass(frozen=True)
class Tile:
    """What one block computes at a time.

    Attributes:
        pixels, out_channels: its size.
        stages, samplers, depth, per_sm: see deform_conv2d.cu.
        step: microseconds in which an SM of an H200 does one step of it.
        registers: of a thread that samples, and of one that multiplies; else all have as many.
    """

    pixels: int
    out_channels: int
    stages: int
    samplers: int
    depth: int
    per_sm: int
    step: float
    registers: tuple[int, int] = (0, 0)

    def alone(self) -> Tile:
        """The same, which has an SM for itself."""
        return self if self.per_sm == 1 else replace(self, per_sm=1, registers=(0, 0))

    def shared(self, taps: int) -> int:
        """Bytes of shared memory: over half of an SM's if a block is to have it for itself."""
        matrices = self.stages * 2 * PART * (self.pixels + self.out_channels)
        needed = matrices + taps * self.pixels * 12 + self.stages * 16
        return needed if self.per_sm > 1 else max(needed, 116 << 10)


NARROW = Tile(128, 64, 2, 128, 4, 2, 0.66, (96, 72))
MIDDLE = Tile(64, 128, 3, 128, 4, 2, 0.42)
WIDE = Tile(128, 256, 3, 128, 4, 1, 1.10, (184, 160))
TILES = (NARROW, MIDDLE, WIDE)


@dataclass(frozen=True)
class Job:
    """A convolution, as far as its time depends on it.

    Attributes:
        images, height, width: of the output.
        groups, in_group, out_group: how many, and the channels of one.
        taps: of the window.
    """

    images: int
    height: int
    width: int
    groups: int
    in_group: int
    out_group: int
    taps: int


@dataclass(frozen=True)
class Part:
    """What one launch computes.

    Attributes:
        tile: of its blocks.
        split: how many blocks, a cluster, take a tile, each its share of the input channels.
        first, last: of the pixels in the order of their strips; the first is a multiple of 16.
    """

    tile: Tile
    split: int
    first: int
    last: int

    def tiles(self, job: Job) -> int:
        """How many there are."""
        columns = job.groups * blocks(job.out_group, self.tile.out_channels)
        return blocks(self.last - self.first, self.tile.pixels) * columns

    def time(self, job: Job, sms: int) -> float:
        """Microseconds, about, on a GPU with so many SMs."""
        most = sms * 10 // 11 if self.split == 4 else sms  # clusters of four leave some
        rounds = blocks(self.tiles(job) * self.split, most)
        parts = job.in_group // PART // self.split
        tile = self.tile
        steps = (rounds + (_ALONE - 1) * (rounds % tile.per_sm)) * parts * job.taps
        time = _START + steps * tile.step
        if self.split > 1:
            time += _AGAIN * (blocks(rounds, tile.per_sm) - 1)
            time += rounds * tile.pixels * tile.out_channels / _ADD_UP
        return time


@dataclass(frozen=True)
class Schedule:
    """All launches of a convolution.

    Attributes:
        strip: columns; pixels are taken strip by strip, so that those of a tile lie together.
        parts: the launches.
    """

    strip: int
    parts: tuple[Part, ...]


@functools.lru_cache(1024)
def schedule(job: Job, sms: int) -> Schedule:
    """The fastest one, on a GPU with so many SMs."""

    def time(found: Schedule) -> float:
        return _uneven(found.strip, job.width) * _total(found.parts, job, sms)

    strips = range(min(job.width, 4), _WIDEST + 1)
    found = [Schedule(strip, tuple(_launches(job, strip, sms))) for strip in strips]
    return min(found, key=lambda each: (time(each), each.parts[-1].last, abs(each.strip - 16)))


def _uneven(strip: int, width: int) -> float:
    """How much longer it takes because pixels do not fill sectors of the memory."""
    if strip % 16 == 0 or strip == width:
        return 1.0
    return 1.06 if strip % 8 == 0 else 1.15


def _launches(job: Job, strip: int, sms: int) -> Sequence[Part]:
    pixels = job.images * blocks(job.width, strip) * strip * job.height
    splits = [split for split in (1, 2, 4) if job.in_group // PART % split == 0]

    def fastest(first: int, last: int) -> Part:
        ways = [Part(tile, split, first, last) for tile in TILES for split in splits]
        return min(ways, key=lambda part: part.time(job, sms))

    columns = job.groups * blocks(job.out_group, WIDE.out_channels)
    whole = blocks(pixels, WIDE.pixels) * columns // sms * sms // columns * WIDE.pixels
    ways = [[fastest(0, pixels)]]
    if 0 < whole < pixels:  # wide ones as long as they keep all SMs busy
        ways.append([Part(WIDE, 1, 0, whole), fastest(whole, pixels)])
    return min(ways, key=lambda parts: _total(parts, job, sms))


def _total(parts: Sequence[Part], job: Job, sms: int) -> float:
    return sum(part.time(job, sms) for part in parts)
