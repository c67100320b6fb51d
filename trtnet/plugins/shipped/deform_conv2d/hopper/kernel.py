"""Compiles and launches the CUDA C++ kernels of the deformable convolution for Hopper GPUs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trtnet.errors import located
from trtnet.plugins.aot_compile import PtxKernel, compile_cuda
from trtnet.plugins.kernel_execution import launch, load
from trtnet.plugins.shipped.deform_conv2d.hopper.schedule import (
    CHANNEL_STEP,
    ConvolutionSize,
    HopperTile,
    schedule,
)
from trtnet.plugins.shipped.triton_launch import blocks

Pair = tuple[int, int]

_MOST_TAPS = 9  # for more, the table of samples does not fit into shared memory


def serves(input: Tensor, offset: Tensor, weight: Tensor) -> bool:
    """Returns whether the kernel supports these tensors, which must fit together."""
    if not (input.is_cuda and input.dtype is torch.float16 and len(input)):
        return False
    taps = weight.shape[2] * weight.shape[3]
    shared_offsets = input.shape[1] * 2 * taps // offset.shape[1]  # channels with common offsets
    return (
        torch.cuda.get_device_capability(input.device) == (9, 0)
        and math.gcd(weight.shape[1], shared_offsets) % CHANNEL_STEP == 0
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
    """Writes the deformable convolution to `out`, for tensors that :func:`serves` accepts.

    Arguments are those of :func:`trtnet.plugins.shipped.deform_conv2d.kernel.deform_conv2d`.
    """
    n, channels, height, width = input.shape
    out_channels, in_group, *window = weight.shape
    groups, (out_h, out_w) = channels // in_group, out.shape[2:]
    size = ConvolutionSize(
        n, out_h, out_w, groups, in_group, out_channels // groups, math.prod(window)
    )
    device = input.device.index or 0
    sms = torch.cuda.get_device_properties(device).multi_processor_count
    chosen = schedule(size, sms)
    # Adjacent pixels of a strip: those of the whole image, if the image is one strip.
    rows = out_h * out_w if chosen.strip == out_w else math.gcd(out_w, chosen.strip)
    constants = {
        "channels": channels,
        "groups": groups,
        "in_group": in_group,
        "out_group": size.out_group,
        "offset_channels": channels * 2 * size.taps // offset.shape[1],
        "taps": size.taps,
        "window_w": window[1],
        "has_mask": mask is not None,
        "has_bias": bias is not None,
        "together": math.gcd(rows, out.data_ptr() // 2, 8),
    }
    optional = [input if tensor is None else tensor for tensor in (mask, bias)]
    inputs = [*prepare(input, weight, size), offset, *optional]
    sizes = (height, width, out_h, out_w, *stride, *padding, *dilation, chosen.strip)
    given = tuple(constants.items())
    for part in chosen.launches:
        tile, tiles = part.tile, part.tiles(size)
        grid = tiles * part.split if part.split > 1 else min(tiles, tile.per_sm * sms)
        if grid <= sms:  # one block per SM, also while some SMs are busy with the kernel before
            tile = tile.alone()
        function, compiled = _loaded(compile, given, device, tile, part.split)
        scalars = (*sizes, part.first, part.last)
        early = part.first == 0  # the kernel before it is the preparation, which allows it
        launch(function, compiled, (grid, 1, 1), inputs, scalars, [out], early)


def prepare(input: Tensor, weight: Tensor, size: ConvolutionSize) -> tuple[Tensor, Tensor]:
    """Lays input and weight out in memory as the convolution reads them.

    The kernel that does it allows the next one to start early.

    Returns:
        The input as (N, H, W, C), which is `input` itself if it has this layout; and the weight as
        matrices of 64 output by 64 input channels, padded with zeros: (groups,
        out / groups / 64, in / groups / 64, h * w, 8, 8, 8, 8). A matrix consists of blocks of 8
        by 8, in the order in which wgmma reads them without a swizzle.
    """
    n, channels, height, width = input.shape
    out_parts, in_parts = blocks(size.out_group, CHANNEL_STEP), size.in_group // CHANNEL_STEP
    packed = weight.new_empty(size.groups, out_parts, in_parts, size.taps, 8, 8, 8, 8)
    turned, turns, pixels = input.permute(0, 2, 3, 1), 0, height * width
    if not turned.is_contiguous():
        turned = input.new_empty(n, height, width, channels)
        turns = blocks(pixels, CHANNEL_STEP) * n * (channels // CHANNEL_STEP)
    constants = {
        "channels": channels,
        "groups": size.groups,
        "in_group": size.in_group,
        "out_group": size.out_group,
        "taps": size.taps,
        "together": math.gcd(pixels, input.data_ptr() // 2, 8),
    }
    device = input.device.index or 0
    function, compiled = _loaded(compile_preparation, tuple(constants.items()), device)
    grid = (turns + size.groups * out_parts * 8 * in_parts, 1, 1)
    launch(function, compiled, grid, [input, weight], [pixels, turns], [turned, packed])
    return turned, packed


@functools.lru_cache(512)
def _loaded(
    compile: Callable[..., PtxKernel],
    constants: tuple[tuple[str, int], ...],
    device: int,
    *more: Any,
) -> tuple[Any, PtxKernel]:
    """Compiles and loads a kernel; returns the loaded function and the compiled kernel.

    Args:
        compile: called with `constants`, as a dict, and `more`.
        device: index of the GPU.
    """
    compiled = compile(dict(constants), *more)
    return load(compiled, device), compiled


def compile(constants: Mapping[str, int], tile: HopperTile, split: int) -> PtxKernel:
    """Compiles the convolution for one tile.

    Args:
        constants: the constants of the convolution, see deform_conv2d.cu.
        tile: the tile of its blocks.
        split: blocks of the cluster that computes one tile.
    """
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


def compile_preparation(constants: Mapping[str, int]) -> PtxKernel:
    """Compiles the kernel that lays input and weight out in memory, see prepare.cu."""
    return _compile("prepare", ["prepare"], constants, (4 * CHANNEL_STEP, 0))


def _compile(
    kernel: str, files: Sequence[str], constants: Mapping[str, int], shape: tuple[int, int]
) -> PtxKernel:
    """Compiles `kernel`; its source is the constants and the files, one after the other."""
    lines = [f"constexpr int {name} = {int(value)};" for name, value in constants.items()]
    for file in ("instructions", *files):
        path = Path(__file__).with_name(f"{file}.cu")
        lines.append(f'#line 1 "{path}"\n{path.read_text()}')
    with located("trtnet::deform_conv2d"):
        return compile_cuda("\n".join(lines), kernel, shape, 90, exact=True)
