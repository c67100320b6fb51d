"""The kernel of deform_conv2d, in Triton: a matrix product that samples its left side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.plugins.shipped.deform_conv2d.hopper import kernel as hopper
from trtnet.plugins.shipped.layout import to_channels_last
from trtnet.plugins.shipped.triton_launch import (
    LaunchPlan,
    Shape,
    TritonLaunch,
    blocks,
    power_of_2,
    require_shapes,
    run_plan,
)
from trtnet.plugins.symbolic_sizes import SymbolicShape

Pair = tuple[int, int]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    mask: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Returns ``torchvision.ops.deform_conv2d`` of CUDA tensors of one type, FP16 or FP32.

    Sums are computed in FP32. `input` may be contiguous or channels_last, and one image of it has
    fewer than 2**31 elements; the other tensors are contiguous. Where pixels at the border are
    infinite or NaN, zeros of the padding beside them may become NaN.

    Args:
        out: contiguous tensor for the result; ``None`` allocates one.

    Raises:
        ShapeError: shapes that do not fit together.
    """
    y = input.new_empty(len(input), len(weight), *offset.shape[2:]) if out is None else out
    tensors = {"input": input, "offset": offset, "weight": weight, "output": y}
    tensors |= {"mask": mask} if mask is not None else {}
    tensors |= {"bias": bias} if bias is not None else {}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check(shapes)
    geometry = (stride, padding, dilation)
    if hopper.serves(input, offset, weight):
        hopper.deform_conv2d(input, offset, weight, bias, *geometry, mask, y)
    else:
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last)
        half = input.dtype is not torch.float32
        launches = plan(shapes, half, is_channels_last, *geometry)
        out_channels, in_group, *window = weight.shape
        groups = input.shape[1] // in_group
        parts = weight.reshape(groups, out_channels // groups, in_group, *window)
        run_plan(launches, {**tensors, "weight": parts.permute(3, 4, 0, 2, 1).contiguous()})
    return y


def check(shapes: dict[str, Shape]) -> None:
    """Checks that tensors of these shapes fit together.

    Raises:
        ShapeError: they do not.
    """
    n, channels, height, width = shapes["input"]
    out_channels, in_group, window_h, window_w = shapes["weight"]
    _, coordinates, out_h, out_w = shapes["offset"]
    taps = window_h * window_w
    offset_groups = max(coordinates // (2 * taps), 1)
    expected: dict[str, SymbolicShape] = {
        "input": (n, max(channels // in_group, 1) * in_group, height, width),
        "offset": (n, offset_groups * 2 * taps, out_h, out_w),
        "mask": (n, offset_groups * taps, out_h, out_w),
        "bias": (out_channels,),
        "output": (n, out_channels, out_h, out_w),
    }
    require_shapes("deform_conv2d", shapes, expected)


def plan(
    shapes: dict[str, Shape],
    half: bool,
    channels_last: bool,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> LaunchPlan:
    """Returns the launches in Triton for tensors of `shapes`, which must fit together.

    The kernel takes the weight as (h, w, groups, in / groups, out / groups).

    Args:
        shapes: shapes of the tensors by name, the weight's as in PyTorch.
        half: whether the tensors are FP16, not FP32.
        channels_last: whether `input` lies in memory as (N, H, W, C).
    """
    n, channels, height, width = shapes["input"]
    out_channels, in_group, window_h, window_w = shapes["weight"]
    _, coordinates, out_h, out_w = shapes["offset"]
    taps, groups = window_h * window_w, channels // in_group
    out_group, offset_groups = out_channels // groups, coordinates // (2 * taps)
    run_length = math.gcd(in_group, channels // offset_groups)
    tile = choose_tile(half, out_group, run_length)
    constants: dict[str, Any] = {
        "groups": groups,
        "in_group": in_group,
        "out_group": out_group,
        "offset_channels": channels // offset_groups,
        "run_length": run_length,
        "window_h": window_h,
        "window_w": window_w,
        "has_mask": "mask" in shapes,
        "has_bias": "bias" in shapes,
        "block_pixels": tile.pixels,
        "block_in": tile.in_channels,
        "block_out": tile.out_channels,
    }
    optional = [name if name in shapes else "input" for name in ("mask", "bias")]
    grid = groups * blocks(out_group, tile.out_channels) * n * blocks(out_h * out_w, tile.pixels)
    main = TritonLaunch(
        _deform_conv2d,
        ("input" if channels_last else "pixels", "offset", "weight", *optional),
        (height, width, out_h, out_w, *stride, *padding, *dilation),
        ("output",),
        constants,
        grid,
        tile.warps,
        tile.stages,
    )
    if channels_last:
        return LaunchPlan((main,))
    turn = to_channels_last("input", "pixels", n, channels, height * width)
    return LaunchPlan((turn, main), {"pixels": (n, height, width, channels)})


@dataclass(frozen=True)
class TritonTile:
    """What one program of the kernel computes.

    Attributes:
        pixels, out_channels: size of the tile of the output.
        in_channels: input channels of one step.
        warps, stages: Triton's ``num_warps`` and ``num_stages``.
    """

    pixels: int
    in_channels: int
    out_channels: int
    warps: int
    stages: int


def choose_tile(half: bool, out_group: int, run_length: int) -> TritonTile:
    """Returns the tile that was fastest on an H200, of those tried.

    It has as many output channels as registers hold, because every program of a pixel samples the
    input again. The widest tiles take fewer input channels in one step.

    Args:
        half: whether the tensors are FP16, not FP32.
        out_group: output channels of a group.
        run_length: adjacent input channels that have their group and their offsets in common.
    """
    in_channels = max(power_of_2(run_length), 16)
    out_channels = max(power_of_2(out_group), 16)
    if not half:
        return TritonTile(32, min(in_channels, 32), min(out_channels, 128), 4, 2)
    if out_channels >= 256:
        return TritonTile(64, min(in_channels, 32), 256, 4, 3)
    return TritonTile(64 if out_channels > 64 else 32, min(in_channels, 64), out_channels, 4, 3)


@triton.jit
def _whole(value):
    """A whole float as an integer; one that leaves every image as one that does, too."""
    return tl.minimum(tl.maximum(value, -1e6), 1e6).to(tl.int32)


@triton.jit
def _position(
    step, group, taps: tl.constexpr, in_group: tl.constexpr, offset_channels: tl.constexpr,
    run_length: tl.constexpr, block_in: tl.constexpr,
):  # fmt: skip
    """The tap of a step, its entry in the tensor of shifts, the first channel of its run within
    the group, and its own first channel within the run."""
    in_blocks: tl.constexpr = (run_length + block_in - 1) // block_in
    tap, part = step % taps, step // taps
    run = part // in_blocks * run_length
    entry = (group * in_group + run) // offset_channels * taps + tap
    return tap, entry, run, part % in_blocks * block_in


@triton.jit
def _shift(offset, mask, entry, pixels, pixel, real, has_mask: tl.constexpr):
    """How far a tap of each pixel is moved down and to the right, and how much it counts."""
    down = tl.load(offset + 2 * entry * pixels + pixel, real, 0.0).to(tl.float32)
    right = tl.load(offset + (2 * entry + 1) * pixels + pixel, real, 0.0).to(tl.float32)
    amount = real.to(tl.float32)
    if has_mask:
        amount = tl.load(mask + entry * pixels + pixel, real, 0.0).to(tl.float32)
    return down, right, amount


@triton.jit
def _corners(x, row, column, down, right, amount, height, width, channels, channel, real):
    """The four pixels around each sample, and their weights.

    Whole and fractional parts of the shifts are kept apart, so that large coordinates lose no
    digits.
    """
    whole_y, whole_x = tl.floor(down), tl.floor(right)
    down, right = down - whole_y, right - whole_x
    y0, x0 = row + _whole(whole_y), column + _whole(whole_x)
    above, below = (y0 >= 0) & (y0 < height), (y0 >= -1) & (y0 < height - 1)
    before, behind = (x0 >= 0) & (x0 < width), (x0 >= -1) & (x0 < width - 1)
    place = ((y0 * width + x0) * channels)[:, None] + channel[None, :]
    value_00 = tl.load(x + place, real & (above & before)[:, None], 0.0)
    value_01 = tl.load(x + place + channels, real & (above & behind)[:, None], 0.0)
    place += width * channels
    value_10 = tl.load(x + place, real & (below & before)[:, None], 0.0)
    value_11 = tl.load(x + place + channels, real & (below & behind)[:, None], 0.0)
    weight_00, weight_01 = amount * (1 - down) * (1 - right), amount * (1 - down) * right
    weight_10, weight_11 = amount * down * (1 - right), amount * down * right
    return value_00, value_01, value_10, value_11, weight_00, weight_01, weight_10, weight_11


@triton.jit
def _weighted(value, weight):
    return value * weight.to(value.dtype)[:, None]


@triton.jit(do_not_specialize=[
    "height", "width", "out_h", "out_w",
    "stride_h", "stride_w", "padding_h", "padding_w", "dilation_h", "dilation_w",
])  # fmt: skip
def _deform_conv2d(
    x, offset, weight, mask, bias,
    height, width, out_h, out_w,
    stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, y,
    groups: tl.constexpr, in_group: tl.constexpr, out_group: tl.constexpr,
    offset_channels: tl.constexpr, run_length: tl.constexpr,
    window_h: tl.constexpr, window_w: tl.constexpr,
    has_mask: tl.constexpr, has_bias: tl.constexpr,
    block_pixels: tl.constexpr, block_in: tl.constexpr, block_out: tl.constexpr,
):  # fmt: skip
    """One program computes `block_out` channels of `block_pixels` pixels of one image.

    It takes the channels in runs that lie in one group and one offset group, of each run
    `block_in` channels, and of these the taps one after the other, so that the samples of all taps
    come from a few lines of the cache. While the product of a step is computed, the samples of the
    next and the shifts of the one after it are on their way.
    """
    channels: tl.constexpr = groups * in_group
    offset_groups: tl.constexpr = channels // offset_channels
    out_blocks: tl.constexpr = (out_group + block_out - 1) // block_out
    in_blocks: tl.constexpr = (run_length + block_in - 1) // block_in
    taps: tl.constexpr = window_h * window_w
    steps: tl.constexpr = taps * (in_group // run_length * in_blocks)
    pixels = out_h * out_w
    place = tl.program_id(0)
    out = place % out_blocks * block_out + tl.arange(0, block_out)
    group, place = place // out_blocks % groups, place // (out_blocks * groups)
    pixel_blocks = tl.cdiv(pixels, block_pixels)
    image = (place // pixel_blocks).to(tl.int64)
    pixel = place % pixel_blocks * block_pixels + tl.arange(0, block_pixels)
    inside = pixel < pixels
    top, left = pixel // out_w * stride_h - padding_h, pixel % out_w * stride_w - padding_w
    x += image * height * width * channels
    offset += image * offset_groups * 2 * taps * pixels
    mask += image * offset_groups * taps * pixels
    weight += group * in_group * out_group
    lane, base = tl.arange(0, block_in), group * in_group
    total = tl.zeros((block_pixels, block_out), tl.float32)
    tap, entry, run, start = _position(
        0, group, taps, in_group, offset_channels, run_length, block_in
    )
    down, right, amount = _shift(offset, mask, entry, pixels, pixel, inside, has_mask)
    v00, v01, v10, v11, w00, w01, w10, w11 = _corners(
        x, top, left, down, right, amount, height, width, channels,
        base + lane, inside[:, None] & (lane < run_length)[None, :],
    )  # fmt: skip
    tap, entry, run, start = _position(
        1, group, taps, in_group, offset_channels, run_length, block_in
    )
    down, right, amount = _shift(
        offset, mask, entry, pixels, pixel, pixel < tl.where(steps > 1, pixels, 0), has_mask
    )
    for step in range(steps):
        sample = _weighted(v00, w00) + _weighted(v01, w01)
        sample += _weighted(v10, w10) + _weighted(v11, w11)
        tap, entry, run, start = _position(
            step, group, taps, in_group, offset_channels, run_length, block_in
        )
        matrix = weight + tap * (groups * in_group * out_group) + (run + start) * out_group
        fits = (start + lane < run_length)[:, None] & (out < out_group)[None, :]
        factor = tl.load(matrix + lane[:, None] * out_group + out[None, :], fits, 0.0)
        tap, entry, run, start = _position(
            step + 1, group, taps, in_group, offset_channels, run_length, block_in
        )
        real = (pixel < tl.where(step + 1 < steps, pixels, 0))[:, None] & (
            start + lane < run_length
        )[None, :]
        row, column = top + tap // window_w * dilation_h, left + tap % window_w * dilation_w
        v00, v01, v10, v11, w00, w01, w10, w11 = _corners(
            x, row, column, down, right, amount, height, width, channels,
            base + run + start + lane, real,
        )  # fmt: skip
        tap, entry, run, start = _position(
            step + 2, group, taps, in_group, offset_channels, run_length, block_in
        )
        down, right, amount = _shift(
            offset,
            mask,
            entry,
            pixels,
            pixel,
            pixel < tl.where(step + 2 < steps, pixels, 0),
            has_mask,
        )
        total = tl.dot(sample, factor, total, input_precision="tf32x3")
    channel = group * out_group + out
    if has_bias:
        total += tl.load(bias + channel, out < out_group, 0.0).to(tl.float32)[None, :]
    y += image * groups * out_group * pixels
    target = y + (channel[None, :] * pixels + pixel[:, None])
    tl.store(target, total.to(y.dtype.element_ty), inside[:, None] & (out < out_group)[None, :])
