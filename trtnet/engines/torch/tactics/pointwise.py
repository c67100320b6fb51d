"""Functions of each element, by one Triton kernel."""

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
    x: Tensor, scale: Tensor, shift: Tensor | None, epilogue: Epilogue, out: Tensor | None = None
) -> Tensor:
    """`epilogue` of ``x * scale + shift``.

    Args:
        x: (M, C), of any stride between rows and 1 in them, on a CUDA device.
        scale: (C,); or (B, C) without gaps, with M a multiple of B, one row for each image.
        shift: (C,).
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
    of_images = scale is not None and scale.dim() == 2
    per_image = x.shape[0] // scale.shape[0] if of_images else 1  # type: ignore[union-attr]
    launch(
        _pointwise, (triton.cdiv(x.numel(), _BLOCK),),
        x, y, scale, bias, factor, other, x.numel() // unit, channels // unit,
        *(step // unit for step in steps), per_image,
        any(step != channels for step in steps), of_images,
        scale is not None, bias is not None, factor is not None, other is not None,
        first.kind, first.low, first.high, last.kind, last.low, last.high, unit, _BLOCK,
    )  # fmt: skip


@triton.jit(do_not_specialize=["count", "channels", "x_m", "y_m", "o_m", "per_image"])
def _pointwise(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, scale, bias, factor, other, count, channels, x_m, y_m, o_m, per_image,
    has_gaps: tl.constexpr, of_images: tl.constexpr,
    has_scale: tl.constexpr, has_bias: tl.constexpr,
    has_factor: tl.constexpr, has_other: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    unit: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program computes `block` values; with `has_gaps` rows do not follow on each other. Sizes
    and strides are given in units, which lie one after the other; `per_image` is in rows."""
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
        scale_at = channel
        if of_images:
            scale_at += row // per_image * (channels * unit)
        value *= tl.load(scale + scale_at, inside, 0.0).to(tl.float32)
    if has_bias:
        value += tl.load(bias + channel, inside, 0.0).to(tl.float32)
    value = activate(value, first, first_low, first_high)
    if has_factor:
        value *= tl.load(factor + channel, inside, 0.0).to(tl.float32)
    if has_other:
        value += tl.load(other + o_at, inside, 0.0).to(tl.float32)
    value = activate(value, last, last_low, last_high)
    tl.store(y + y_at, value.to(y.dtype.element_ty), inside)
