"""Deformable convolution on Hopper GPUs: its kernels in CUDA C++, compiled and launched."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trtnet.plugins.ahead import Binary, compile_cuda
from trtnet.plugins.launch import launch, load
from trtnet.plugins.shipped.deform_conv2d.hopper.schedule import PART, Job, Tile, schedule
from trtnet.plugins.shipped.launch import blocks

Pair = tuple[int, int]

_MOST_TAPS = 9  # of which the table fits beside the matrices


def serves(input: Tensor, offset: Tensor, weight: Tensor) -> bool:
    """Whether the kernel takes such tensors, which fit together."""
    if not (input.is_cuda and input.dtype is torch.float16 and len(input)):
        return False
    taps = weight.shape[2] * weight.shape[3]
    shared_offsets = input.shape[1] * 2 * taps // offset.shape[1]  # channels that have the same
    return (
        torch.cuda.get_device_capability(input.device) == (9, 0)
        and math.gcd(weight.shape[1], shared_offsets) % PART == 0
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
    missing = -(out // groups) % PART
    if missing:
        parts = torch.nn.functional.pad(parts, (0, 0, 0, 0, 0, missing))
    bricks = parts.reshape(groups, -1, 8, 8, in_group // PART, 8, 8, window_h * window_w)
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
    groups, out_channels, (out_h, out_w) = len(packed), out.shape[1], out.shape[2:]
    job = Job(
        n, out_h, out_w, groups, channels // groups, out_channels // groups, math.prod(window)
    )
    device = input.device.index or 0
    sms = torch.cuda.get_device_properties(device).multi_processor_count
    order = schedule(job, sms)
    rows = out_h * out_w if order.strip == out_w else math.gcd(out_w, order.strip)
    constants = {
        "channels": channels,
        "groups": groups,
        "in_group": job.in_group,
        "out_group": job.out_group,
        "offset_channels": channels * 2 * job.taps // offset.shape[1],
        "taps": job.taps,
        "window_w": window[1],
        "has_mask": mask is not None,
        "has_bias": bias is not None,
        "together": math.gcd(rows, out.data_ptr() // 2, 8),
    }
    optional = [input if tensor is None else tensor for tensor in (mask, bias)]
    source = channels_last(input)
    inputs = [source, offset, packed, *optional]
    sizes = (height, width, out_h, out_w, *stride, *padding, *dilation, order.strip)
    for part in order.parts:
        tile, tiles = part.tile, part.tiles(job)
        grid = tiles * part.split if part.split > 1 else min(tiles, tile.per_sm * sms)
        if grid <= sms:  # each has an SM for itself, also when not all SMs are free yet
            tile = tile.alone()
        function, binary = _kernel(tile, part.split, tuple(constants.items()), device)
        scalars = (*sizes, part.first, part.last)
        early = source is not input and part.first == 0  # right after the change of layout
        launch(function, binary, (grid, 1, 1), inputs, scalars, [out], early)


def channels_last(input: Tensor) -> Tensor:
    """`input` as it lies in memory if that is channels_last, or a copy of it, whose kernel lets the
    next one begin early."""
    if input.is_contiguous(memory_format=torch.channels_last):
        return input
    n, channels, *size = input.shape
    pixels = math.prod(size)
    copy = input.new_empty(n, *size, channels)
    together = math.gcd(pixels, input.data_ptr() // 2, 8)
    function, binary = _turn(channels, together, input.device.index or 0)
    grid = blocks(pixels, PART) * n * (channels // PART)
    launch(function, binary, (grid, 1, 1), [input], [pixels], [copy])
    return copy


@functools.lru_cache(256)
def _kernel(
    tile: Tile, split: int, constants: tuple[tuple[str, int], ...], device: int
) -> tuple[Any, Binary]:
    """The kernel for one kind of convolution on a GPU, and what it was loaded from."""
    binary = compile(tile, split, dict(constants))
    return load(binary, device), binary


@functools.lru_cache(64)
def _turn(channels: int, together: int, device: int) -> tuple[Any, Binary]:
    """The kernel that changes the layout of so many channels, and what it was loaded from."""
    binary = compile_turn(channels, together)
    return load(binary, device), binary


def compile(tile: Tile, split: int, constants: Mapping[str, int]) -> Binary:
    """PTX for Hopper; `constants` are those of the convolution (see deform_conv2d.cu)."""
    of_tile = {
        "split": split,
        "block_pixels": tile.pixels,
        "block_out": tile.out_channels,
        "stages": tile.stages,
        "samplers": tile.samplers,
        "depth": tile.depth,
        "blocks_per_sm": tile.per_sm,
        "sampler_registers": tile.registers[0],
        "multiplier_registers": tile.registers[1],
    }
    shape = (tile.samplers + 2 * tile.pixels, tile.shared(constants["taps"]))
    files = ("tiles", "sampling", "multiplying", "deform_conv2d")
    return _compile("deform_conv2d", files, {**constants, **of_tile}, shape)


def compile_turn(channels: int, together: int) -> Binary:
    """PTX of the change of layout (see channels_last.cu)."""
    constants = {"channels": channels, "together": together}
    return _compile("to_channels_last", ["channels_last"], constants, (4 * PART, 0))


def _compile(
    kernel: str, files: Sequence[str], constants: Mapping[str, int], shape: tuple[int, int]
) -> Binary:
    """PTX of `kernel`, whose source is those files one after the other."""
    lines = [f"constexpr int {name} = {int(value)};" for name, value in constants.items()]
    for file in ("instructions", *files):
        path = Path(__file__).with_name(f"{file}.cu")
        lines.append(f'#line 1 "{path}"\n{path.read_text()}')
    return compile_cuda("\n".join(lines), kernel, shape, 90, "trtnet::deform_conv2d", exact=True)
