"""Deformable convolution on Hopper GPUs: the launches of the kernel in hopper.cu (CUDA C++)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trtnet.plugins.ahead import Binary, compile_cuda
from trtnet.plugins.launch import launch, load
from trtnet.plugins.shipped.launch import Work, blocks, run
from trtnet.plugins.shipped.layout import to_channels_last

Pair = tuple[int, int]

_PART = 64  # input channels of a step, and rows of a packed matrix of weights
_MOST_TAPS = 9  # of which the table fits beside the matrices
_START = 6.0  # microseconds of a launch besides its steps
_ADD_UP = 0.7  # of blocks that share a tile, besides their steps
_ALONE = 1.12  # how much longer the steps of one of two blocks take that has its SM for itself


@dataclass(frozen=True)
class Tile:
    """What one block computes at a time.

    Attributes:
        pixels, out_channels: its size.
        stages, samplers, depth, per_sm: see hopper.cu.
        step: microseconds in which an SM of an H200 does one step of it.
    """

    pixels: int
    out_channels: int
    stages: int
    samplers: int
    depth: int
    per_sm: int
    step: float

    def shared(self, taps: int) -> int:
        """Bytes of shared memory."""
        matrices = self.stages * 2 * _PART * (self.pixels + self.out_channels)
        return matrices + taps * self.pixels * 16 + self.stages * 16


NARROW = Tile(128, 64, 2, 128, 2, 2, 0.70)
MIDDLE = Tile(64, 128, 3, 128, 4, 2, 0.42)
WIDE = Tile(128, 256, 3, 128, 4, 1, 1.12)
TILES = (NARROW, MIDDLE, WIDE)


@dataclass(frozen=True)
class Part:
    """What one launch computes.

    Attributes:
        tile: of its blocks.
        split: how many blocks, a cluster, take a tile, each its share of the input channels.
        first, last: of the pixels in the order of their strips.
    """

    tile: Tile
    split: int
    first: int
    last: int


def serves(input: Tensor, offset: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes such tensors, which fit together."""
    if not (input.is_cuda and input.dtype is torch.float16 and len(input)):
        return False
    taps = weight.shape[2] * weight.shape[3]
    shared_offsets = input.shape[1] * 2 * taps // offset.shape[1]  # channels that have the same
    return (
        torch.cuda.get_device_capability(input.device) == (9, 0)
        and math.gcd(weight.shape[1], shared_offsets) % _PART == 0
        and taps <= _MOST_TAPS
        and min(input.shape[2:]) >= 2
        and 2 * input.numel() < 2**32
        and 0 < 2 * len(input) * offset.shape[2] * offset.shape[3] < 2**31
    )


def pack(weight: Tensor, groups: int) -> Tensor:
    """The weight (out, in / groups, h, w) as matrices of 64 output by 64 input channels, rounded up
    with zeros: (groups, out / groups / 64, in / groups / 64, h * w, 8, 8, 8, 8). A matrix consists
    of bricks of 8 by 8, which lie in memory as wgmma reads them without a swizzle."""
    out, in_group, window_h, window_w = weight.shape
    parts = weight.reshape(groups, out // groups, in_group, window_h * window_w)
    missing = -(out // groups) % _PART
    if missing:
        parts = torch.nn.functional.pad(parts, (0, 0, 0, 0, 0, missing))
    bricks = parts.reshape(groups, -1, 8, 8, in_group // _PART, 8, 8, window_h * window_w)
    return bricks.permute(0, 1, 4, 7, 2, 5, 3, 6).contiguous()


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    packed: Tensor,
    window: Pair,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    mask: Tensor | None,
    out: Tensor,
) -> None:
    """As :func:`trtnet.plugins.shipped.deform_conv2d.kernel.deform_conv2d`, for tensors that are
    served, with the weight as :func:`pack` gives it."""
    n, channels, height, width = input.shape
    groups, in_group = len(packed), packed.shape[2] * _PART
    taps, out_channels, (out_h, out_w) = math.prod(window), out.shape[1], out.shape[2:]
    strip, start = strip_of(out_w), out.data_ptr() // 2
    constants = {
        "channels": channels,
        "groups": groups,
        "in_group": in_group,
        "out_group": out_channels // groups,
        "offset_channels": channels * 2 * taps // offset.shape[1],
        "taps": taps,
        "window_w": window[1],
        "has_mask": mask is not None,
        "has_bias": bias is not None,
        "together": math.gcd(out_h * out_w if strip == out_w else math.gcd(out_w, strip), start, 8),
    }
    optional = [input if tensor is None else tensor for tensor in (mask, bias)]
    inputs = [channels_last(input), offset, packed, *optional]
    sizes = (height, width, out_h, out_w, *stride, *padding, *dilation, strip)
    sms = torch.cuda.get_device_properties(input.device).multi_processor_count
    places = n * blocks(out_w, strip) * strip * out_h
    for part in launches(places, constants, sms):
        given = tuple(constants.items())
        function, binary = _kernel(part.tile, part.split, given, input.device.index or 0)
        tiles = _tiles(part, constants)
        grid = tiles * part.split if part.split > 1 else min(tiles, part.tile.per_sm * sms)
        launch(function, binary, (grid, 1, 1), inputs, (*sizes, part.first, part.last), [out])


def channels_last(input: Tensor) -> Tensor:
    """`input` as it lies in memory if that is channels_last, or a copy of it."""
    if input.is_contiguous(memory_format=torch.channels_last):
        return input
    n, channels, *size = input.shape
    pixels = input.new_empty(n, *size, channels)
    turn = to_channels_last("input", "pixels", n, channels, math.prod(size))
    run(Work((turn,)), {"input": input, "pixels": pixels})
    return pixels


def strip_of(width: int) -> int:
    """How many columns wide the strips are in which pixels are taken: so that the pixels of a tile
    lie together, that rows of a strip begin with a sector, and that the last strip wastes
    little."""

    def cost(strip: int) -> float:
        uneven = 1.0 if strip % 16 == 0 or strip == width else 1.06 if strip % 8 == 0 else 1.15
        return blocks(width, strip) * strip * uneven

    return min(range(min(width, 8), 33), key=lambda strip: (cost(strip), abs(strip - 16)))


def launches(pixels: int, constants: Mapping[str, int], sms: int) -> list[Part]:
    """Those that compute so many pixels the fastest; `constants` are as for :func:`compile`."""

    def time(part: Part) -> float:
        most = sms * 10 // 11 if part.split == 4 else sms  # clusters of four leave some
        rounds = blocks(_tiles(part, constants) * part.split, most)
        steps = (rounds + (_ALONE - 1) * (rounds % part.tile.per_sm)) * (parts // part.split)
        added = _ADD_UP * rounds if part.split > 1 else 0
        return _START + added + steps * constants["taps"] * part.tile.step

    def fastest(first: int, last: int) -> Part:
        ways = [Part(tile, split, first, last) for tile in TILES for split in splits]
        return min(ways, key=time)

    parts = constants["in_group"] // _PART
    splits = [split for split in (1, 2, 4) if parts % split == 0]
    columns = constants["groups"] * blocks(constants["out_group"], WIDE.out_channels)
    whole = blocks(pixels, WIDE.pixels) * columns // sms * sms // columns * WIDE.pixels
    ways = [[fastest(0, pixels)]]
    if 0 < whole < pixels:  # wide ones as long as they keep all SMs busy
        ways.append([Part(WIDE, 1, 0, whole), fastest(whole, pixels)])
    return min(ways, key=lambda way: sum(map(time, way)))


def _tiles(part: Part, constants: Mapping[str, int]) -> int:
    tile, columns = part.tile, blocks(constants["out_group"], part.tile.out_channels)
    return blocks(part.last - part.first, tile.pixels) * columns * constants["groups"]


@functools.lru_cache(256)
def _kernel(
    tile: Tile, split: int, constants: tuple[tuple[str, int], ...], device: int
) -> tuple[Any, Binary]:
    """The kernel for one kind of convolution on a GPU, and what it was loaded from."""
    binary = compile(tile, split, dict(constants))
    return load(binary, device), binary


def compile(tile: Tile, split: int, constants: Mapping[str, int]) -> Binary:
    """PTX for Hopper; `constants` are those of the convolution (see hopper.cu)."""
    threads = tile.samplers + 2 * tile.pixels
    source = "\n".join(_source(tile, split, constants))
    shape = (threads, tile.shared(constants["taps"]))
    return compile_cuda(source, "deform_conv2d", shape, 90, "trtnet::deform_conv2d", exact=True)


def _source(tile: Tile, split: int, constants: Mapping[str, int]) -> Iterator[str]:
    of_tile = {
        "split": split,
        "block_pixels": tile.pixels,
        "block_out": tile.out_channels,
        "stages": tile.stages,
        "samplers": tile.samplers,
        "depth": tile.depth,
        "blocks_per_sm": tile.per_sm,
    }
    for name, value in {**constants, **of_tile}.items():
        yield f"constexpr int {name} = {int(value)};"
    for file in ("hopper_instructions.cu", "hopper.cu"):
        path = Path(__file__).with_name(file)
        yield f'#line 1 "{path}"\n{path.read_text()}'
