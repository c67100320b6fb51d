"""An epilogue in a pass of its own, after a convolution of cuDNN, by one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import activate
from trtnet.engines.torch.tactics.epilogue import Epilogue

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
    if x.numel():
        first, last = epilogue.first, epilogue.last
        _finish[(triton.cdiv(x.numel(), _BLOCK),)](
            x, bias, factor, other, x.numel(), x.shape[1],
            bias is not None, factor is not None, other is not None,
            first.kind, first.low, first.high, last.kind, last.low, last.high, _BLOCK,
        )  # fmt: skip
    return x


@triton.jit
def _finish(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, bias, factor, other, count, channels,
    has_bias: tl.constexpr, has_factor: tl.constexpr, has_other: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program finishes `block` values."""
    start = tl.program_id(0).to(tl.int64) * block
    place = start + tl.arange(0, block)
    inside = place < count
    if has_bias or has_factor:
        channel = ((start % channels).to(tl.int32) + tl.arange(0, block)) % channels
    value = tl.load(x + place, inside, 0.0).to(tl.float32)
    if has_bias:
        value += tl.load(bias + channel, inside, 0.0).to(tl.float32)
    value = activate(value, first, first_low, first_high)
    if has_factor:
        value *= tl.load(factor + channel, inside, 0.0).to(tl.float32)
    if has_other:
        value += tl.load(other + place, inside, 0.0).to(tl.float32)
    value = activate(value, last, last_low, last_high)
    tl.store(x + place, value.to(x.dtype.element_ty), inside)
