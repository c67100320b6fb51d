"""Deformable convolution on Hopper GPUs: its kernels in CUDA C++, compiled and launched."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
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


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    mask: Tensor | None,
    out: Tensor,
) -> None:
    """As :func:`trtnet.plugins.shipped.deform_conv2d.kernel.deform_conv2d`, for tensors that are
    served."""
    n, channels, height, width = input.shape
    out_channels, in_group, *window = weight.shape
    groups, (out_h, out_w) = channels // in_group, out.shape[2:]
    job = Job(n, out_h, out_w, groups, in_group, out_channels // groups, math.prod(window))
    device = input.device.index or 0
    sms = torch.cuda.get_device_properties(device).multi_processor_count
    order = schedule(job, sms)
    # How many pixels of a strip lie together: all of an image's, if it is the only one.
    rows = out_h * out_w if order.strip == out_w else math.gcd(out_w, order.strip)
    constants = {
        "channels": channels,
        "groups": groups,
        "in_group": in_group,
        "out_group": job.out_group,
        "offset_channels": channels * 2 * job.taps // offset.shape[1],
        "taps": job.taps,
        "window_w": window[1],
        "has_mask": mask is not None,
        "has_bias": bias is not None,
        "together": math.gcd(rows, out.data_ptr() // 2, 8),
    }
    optional = [input if tensor is None else tensor for tensor in (mask, bias)]
    inputs = [*prepare(input, weight, job), offset, *optional]
    sizes = (height, width, out_h, out_w, *stride, *padding, *dilation, order.strip)
    given = tuple(constants.items())
    for part in order.parts:
        tile, tiles = part.tile, part.tiles(job)
        grid = tiles * part.split if part.split > 1 else min(tiles, tile.per_sm * sms)
        if grid <= sms:  # each has an SM for itself, also when not all SMs are free yet
            tile = tile.alone()
        function, binary = _loaded(compile, given, device, tile, part.split)
        scalars = (*sizes, part.first, part.last)
        early = part.first == 0  # right after what was prepared
        launch(function, binary, (grid, 1, 1), inputs, scalars, [out], early)


def prepare(input: Tensor, weight: Tensor, job: Job) -> tuple[Tensor, Tensor]:
    """The input as (N, H, W, C), itself if it lies so in memory, and the weight as matrices of 64
    output by 64 input channels, rounded up with zeros: (groups, out / groups / 64,
    in / groups / 64, h * w, 8, 8, 8, 8). A matrix consists of bricks of 8 by 8, which lie in memory
    as wgmma reads them without a swizzle. The kernel lets the next one begin early."""
    n, channels, *size = input.shape
    out_parts, in_parts = blocks(job.out_group, PART), job.in_group // PART
    packed = weight.new_empty(job.groups, out_parts, in_parts, job.taps, 8, 8, 8, 8)
    turned, turns, pixels = input.permute(0, 2, 3, 1), 0, math.prod(size)
    if not turned.is_contiguous():
        turned = input.new_empty(n, *size, channels)
        turns = blocks(pixels, PART) * n * (channels // PART)
    constants = {
        "channels": channels,
        "groups": job.groups,
        "in_group": job.in_group,
        "out_group": job.out_group,
        "taps": job.taps,
        "together": math.gcd(pixels, input.data_ptr() // 2, 8),
    }
    device = input.device.index or 0
    function, binary = _loaded(compile_preparation, tuple(constants.items()), device)
    grid = (turns + job.groups * out_parts * 8 * in_parts, 1, 1)
    launch(function, binary, grid, [input, weight], [pixels, turns], [turned, packed])
    return turned, packed


@functools.lru_cache(512)
def _loaded(
    compile: Callable[..., Binary], constants: tuple[tuple[str, int], ...], device: int, *more: Any
) -> tuple[Any, Binary]:
    """What `compile` gives for `constants` and `more`, on a GPU, and what it was loaded from."""
    binary = compile(dict(constants), *more)
    return load(binary, device), binary


def compile(constants: Mapping[str, int], tile: Tile, split: int) -> Binary:
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


def compile_preparation(constants: Mapping[str, int]) -> Binary:
    """PTX of what comes before (see prepare.cu)."""
    return _compile("prepare", ["prepare"], constants, (4 * PART, 0))


def _compile(
    kernel: str, files: Sequence[str], constants: Mapping[str, int], shape: tuple[int, int]
) -> Binary:
    """PTX of `kernel`, whose source is those files one after the other."""
    lines = [f"constexpr int {name} = {int(value)};" for name, value in constants.items()]
    for file in ("instructions", *files):
        path = Path(__file__).with_name(f"{file}.cu")
        lines.append(f'#line 1 "{path}"\n{path.read_text()}')
    return compile_cuda("\n".join(lines), kernel, shape, 90, "trtnet::deform_conv2d", exact=True)
