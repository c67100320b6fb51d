"""Functions of each element, by one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import activate
from trtnet.engines.torch.tactics.epilogue import Epilogue
from trtnet.engines.torch.tactics.launching import launch

_BLOCK = 1024


def finish(
    x: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    epilogue: Epilogue,
) -> Tensor:
    """`epilogue` of `x`, which it overwrites.

    Args:
        x: (M, C), rows without gaps, on a CUDA device.
        bias, factor: (C,).
        other: as `x`.
    """
    _run(x, x, None, bias, factor, other, epilogue)
    return x


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor | None, epilogue: Epilogue) -> Tensor:
    """`epilogue` of ``x * scale + shift``.

    Args:
        x: (M, C), rows without gaps, on a CUDA device.
        scale: (C,); or (B, C) with M a multiple of B, one row for each image.
        shift: (C,).
        epilogue: activations alone.
    """
    y = torch.empty_like(x)
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
    of_images = scale is not None and scale.dim() == 2
    per_image = x.numel() // scale.shape[0] if of_images else 1  # type: ignore[union-attr]
    launch(
        _pointwise, (triton.cdiv(x.numel(), _BLOCK),),
        x, y, scale, bias, factor, other, x.numel(), x.shape[1], per_image,
        of_images, scale is not None, bias is not None, factor is not None, other is not None,
        first.kind, first.low, first.high, last.kind, last.low, last.high, _BLOCK,
    )  # fmt: skip


@triton.jit
def _pointwise(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, scale, bias, factor, other, count, channels, per_image,
    of_images: tl.constexpr, has_scale: tl.constexpr, has_bias: tl.constexpr,
    has_factor: tl.constexpr, has_other: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program computes `block` values."""
    start = tl.program_id(0).to(tl.int64) * block
    place = start + tl.arange(0, block)
    inside = place < count
    if has_scale or has_bias or has_factor:
        channel = ((start % channels).to(tl.int32) + tl.arange(0, block)) % channels
    value = tl.load(x + place, inside, 0.0).to(tl.float32)
    if has_scale:
        row = scale + channel
        if of_images:
            later = ((start % per_image).to(tl.int32) + tl.arange(0, block)) // per_image
            row += (start // per_image + later) * channels
        value *= tl.load(row, inside, 0.0).to(tl.float32)
    if has_bias:
        value += tl.load(bias + channel, inside, 0.0).to(tl.float32)
    value = activate(value, first, first_low, first_high)
    if has_factor:
        value *= tl.load(factor + channel, inside, 0.0).to(tl.float32)
    if has_other:
        value += tl.load(other + place, inside, 0.0).to(tl.float32)
    value = activate(value, last, last_low, last_high)
    tl.store(y + place, value.to(y.dtype.element_ty), inside)
