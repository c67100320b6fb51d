"""Functions of each element, and means over images, by one Triton kernel each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import activate
from trtnet.engines.torch.tactics.epilogue import Epilogue
from trtnet.engines.torch.tactics.launching import launch, unit_of

_BLOCK = 1024


def finish(
    x: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    epilogue: Epilogue,
    out: Tensor | None = None,
) -> Tensor:
    """`epilogue` of `x`, which it overwrites.

    Args:
        x: (M, C), of any stride between rows and 1 in them, on a CUDA device.
        bias, factor: (C,).
        other: as `x`.
        out: as `x`, where the result is written instead; `x` stays as it is.

    Returns:
        `x`, or `out`.
    """
    y = x if out is None else out
    _run(x, y, None, bias, factor, other, epilogue)
    return y


def scale_shift(
    x: Tensor, scale: Tensor, shift: Tensor, epilogue: Epilogue, out: Tensor | None = None
) -> Tensor:
    """`epilogue` of ``x * scale + shift``.

    Args:
        x: (M, C), of any stride between rows and 1 in them, on a CUDA device.
        scale, shift: (C,).
        epilogue: activations alone.
        out: as `x`, where the result is written.

    Returns:
        (M, C), without gaps; `out` where that is given.
    """
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    _run(x, y, scale, shift, None, None, epilogue)
    return y


def _run(
    x: Tensor,
    y: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    epilogue: Epilogue,
) -> None:
    if not x.numel():
        return
    first, last = epilogue.first, epilogue.last
    channels = x.shape[1]
    steps = [channels if rows is None else rows.stride(0) for rows in (x, y, other)]
    unit = unit_of(channels, *steps)
    launch(
        _pointwise, (triton.cdiv(x.numel(), _BLOCK),),
        x, y, scale, bias, factor, other, x.numel() // unit, channels // unit,
        *(step // unit for step in steps), any(step != channels for step in steps),
        scale is not None, bias is not None, factor is not None, other is not None,
        first.kind, first.low, first.high, last.kind, last.low, last.high, unit, _BLOCK,
    )  # fmt: skip


@triton.jit(do_not_specialize=["count", "channels", "x_m", "y_m", "o_m"])
def _pointwise(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, scale, bias, factor, other, count, channels, x_m, y_m, o_m, has_gaps: tl.constexpr,
    has_scale: tl.constexpr, has_bias: tl.constexpr,
    has_factor: tl.constexpr, has_other: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    unit: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program computes `block` values; with `has_gaps` rows do not follow on each other. Sizes
    and strides are given in units, which lie one after the other."""
    start = tl.program_id(0).to(tl.int64) * (block // unit)
    group, within = tl.arange(0, block // unit)[:, None], tl.arange(0, unit)[None, :]
    inside = (start + group < count) & (within < unit)
    offset = (start % channels).to(tl.int32) + group
    row, channel = start // channels + offset // channels, offset % channels * unit + within
    place = (start + group) * unit + within
    x_at, y_at, o_at = place, place, place
    if has_gaps:
        x_at = row * (x_m.to(tl.int64) * unit) + channel
        y_at = row * (y_m.to(tl.int64) * unit) + channel
        o_at = row * (o_m.to(tl.int64) * unit) + channel
    value = tl.load(x + x_at, inside, 0.0).to(tl.float32)
    if has_scale:
        value *= tl.load(scale + channel, inside, 0.0).to(tl.float32)
    if has_bias:
        value += tl.load(bias + channel, inside, 0.0).to(tl.float32)
    value = activate(value, first, first_low, first_high)
    if has_factor:
        value *= tl.load(factor + channel, inside, 0.0).to(tl.float32)
    if has_other:
        value += tl.load(other + o_at, inside, 0.0).to(tl.float32)
    value = activate(value, last, last_low, last_high)
    tl.store(y + y_at, value.to(y.dtype.element_ty), inside)


def image_means(x: Tensor, rows: int, channels: int, warps: int) -> Tensor:
    """The mean of each image and channel, (N, C).

    Args:
        x: (N, P, C), P pixels; without gaps, on a CUDA device.
        rows, channels: that a program reads at a time; powers of 2.
        warps: of a program.
    """
    n, pixels, c = x.shape
    y = torch.empty((n, c), dtype=x.dtype, device=x.device)
    if y.numel():
        grid = (n, triton.cdiv(c, channels))
        unit = unit_of(c)
        launch(_image_means, grid, x, y, pixels, c // unit, rows, channels, unit, num_warps=warps)
    return y


@triton.jit(do_not_specialize=["pixels", "c"])
def _image_means(  # type: ignore[no-untyped-def]  # as above
    x, y, pixels, c, rows: tl.constexpr, channels: tl.constexpr, unit: tl.constexpr
):
    """One program sums up `channels` of the `c` times `unit` channels of one image."""
    c = c * unit
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * channels + tl.arange(0, channels)
    row = tl.arange(0, rows)
    total = tl.zeros((rows, channels), tl.float32)
    for start in range(0, pixels, rows):
        inside = ((start + row) < pixels)[:, None] & (channel < c)[None, :]
        at = x + (image * pixels + start + row)[:, None] * c + channel[None, :]
        total += tl.load(at, inside, 0.0).to(tl.float32)
    mean = tl.sum(total, 0) / pixels
    tl.store(y + image * c + channel, mean.to(y.dtype.element_ty), channel < c)
