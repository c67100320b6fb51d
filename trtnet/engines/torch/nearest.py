"""Images in channels_last resized to their nearest pixels by a Triton kernel of our own: PyTorch's
takes several times as long as the memory does, and knows fewer rules."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.pooling import rows_of
from trtnet.engines.torch.resize import resize
from trtnet.engines.torch.tactics.launching import launch, unit_of
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.layer_context import integers
from trtnet.reference.resize import nearest, source_positions

_LAST = torch.channels_last
_FLOATS = (*HALF_DTYPES, torch.float32)
_LIMIT = 1 << 31  # what indices on one axis, and their steps, stay below
_TILE = 8192  # bytes of a program: four times 16 for each of 128 threads
_CHANNELS = 256


class Step(NamedTuple):
    """The index in the source of each element along an axis:
    ``max(0, i * factor + offset) // divisor``, and at most the last."""

    factor: int
    offset: int
    divisor: int


def resize_nearest(
    x: Tensor, size: Any, scales: tuple[float, ...] | None, transformation: str, selector: str,
    rounding: str, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """:func:`trtnet.engines.torch.resize.resize` of mode "NEAREST", bit for bit; `out` as in
    :func:`take_nearest`."""
    steps = _steps(x, size, scales, (transformation, selector, rounding))
    if steps is not None:
        return take_nearest(x, *steps, out)
    y = resize(
        x, size, scales=scales, mode="NEAREST", transformation=transformation, selector=selector,
        rounding=rounding, cubic=0.0, exclude_outside=False,
    )  # fmt: skip
    return y if out is None else out.copy_(y)


def _steps(
    x: Tensor, size: Any, scales: tuple[float, ...] | None, how: tuple[str, str, str]
) -> tuple[list[int], list[Step]] | None:
    """Rows and columns of the result, and where they are taken; None where the kernel cannot."""
    if not x.is_cuda or x.dtype not in _FLOATS or 0 in x.shape or rows_of(x) is None:
        return None
    if scales is not None:
        size = [math.floor(n * s) for n, s in zip(x.shape, scales, strict=True)]
    target, factors = [*integers(size)], scales or (None,) * 4
    if tuple(target[:2]) != tuple(x.shape[:2]) or any(s not in (None, 1) for s in factors[:2]):
        return None
    found = [step_of(x.shape[i], target[i], factors[i], *how) for i in (2, 3)]
    steps = [step for step in found if step is not None]
    return (target[2:], steps) if len(steps) == len(found) else None


def step_of(
    n: int, count: int, scale: float | None, transformation: str, selector: str, rounding: str
) -> Step | None:
    """Where `count` elements are taken from `n`, in integers; None where these say something else
    than the reference does, which computes in float64."""
    if count == n and scale in (None, 1):
        return Step(1, 0, 1)
    # The position is (factor * i + offset) / divisor.
    factor, offset, divisor = {
        "HALF_PIXEL": (2 * n, n - count, 2 * count),
        "ALIGN_CORNERS": (n - 1, 0, max(1, count - 1)),
    }.get(transformation, (n, 0, count))
    step = {
        "FLOOR": Step(factor, offset, divisor),
        "CEIL": Step(factor, offset + divisor - 1, divisor),
        "HALF_UP": Step(2 * factor, 2 * offset + divisor, 2 * divisor),
        "HALF_DOWN": Step(2 * factor, 2 * offset + divisor - 1, 2 * divisor),
    }[rounding]
    if count == 0 or max(step.factor, step.divisor) * (count + 1) >= _LIMIT:
        return None
    positions = source_positions(n, count, scale, transformation, selector)
    wanted = nearest(positions, rounding).clamp(0, n - 1)
    index = torch.arange(count) * step.factor + step.offset
    found = (index.clamp(min=0) // step.divisor).clamp(max=n - 1)
    return step if torch.equal(found, wanted) else None


def take_nearest(
    x: Tensor, size: list[int], steps: list[Step], out: Tensor | None = None
) -> Tensor:
    """The pixels of `x` at the positions that `steps` give for rows and columns.

    Args:
        x: (N, C, H, W) in channels_last, with or without gaps between the pixels, on a CUDA
            device.
        size: rows and columns of the result.
        out: where the result is written, which may have gaps too; None for new memory.
    """
    n, c, h, w = x.shape
    oh, ow = size
    y = out
    if y is None:
        y = torch.empty((n, c, oh, ow), dtype=x.dtype, device=x.device, memory_format=_LAST)
    source, target = rows_of(x), rows_of(y)
    if source is None or target is None:
        raise ValueError("the pixels are no rows of channels")
    unit = unit_of(c, source.stride(0), target.stride(0))
    channels = min(_CHANNELS, triton.next_power_of_2(c))
    pixels = max(1, _TILE // x.element_size() // channels)
    pixels = min(pixels, triton.next_power_of_2(ow))
    parts, blocks = triton.cdiv(c, channels), triton.cdiv(ow, pixels)
    launch(
        _nearest, (n * oh * blocks * parts,),
        x, y, blocks, parts, h, w, oh, ow, c // unit,
        source.stride(0) // unit, target.stride(0) // unit, *steps[0], *steps[1],
        pixels, channels, unit,
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["blocks", "parts", "h", "w", "oh", "ow", "c", "x_p", "y_p",
                               "factor_h", "offset_h", "divisor_h", "factor_w", "offset_w",
                               "divisor_w"])  # fmt: skip
def _nearest(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, blocks, parts, h, w, oh, ow, c, x_p, y_p,
    factor_h, offset_h, divisor_h, factor_w, offset_w, divisor_w,
    pixels: tl.constexpr, channels: tl.constexpr, unit: tl.constexpr,
):  # fmt: skip
    """One program writes `pixels` of one row, `channels` of the `c` times `unit` channels; from one
    pixel to the next are `x_p` and `y_p` times `unit` values."""
    x_p, y_p = x_p.to(tl.int64) * unit, y_p.to(tl.int64) * unit
    block = tl.program_id(0) // parts
    channel = tl.program_id(0) % parts * channels + tl.arange(0, channels)
    line = block // blocks
    column = block % blocks * pixels + tl.arange(0, pixels)
    image, row = (line // oh).to(tl.int64), line % oh
    row_from = tl.minimum(tl.maximum(row * factor_h + offset_h, 0) // divisor_h, h - 1)
    column_from = tl.minimum(tl.maximum(column * factor_w + offset_w, 0) // divisor_w, w - 1)
    inside = (column < ow)[:, None] & (channel < c * unit)[None, :]
    source = x + ((image * h + row_from) * w + column_from)[:, None] * x_p + channel[None, :]
    target = y + ((image * oh + row) * ow + column)[:, None] * y_p + channel[None, :]
    tl.store(target, tl.load(source, inside, 0), inside)
