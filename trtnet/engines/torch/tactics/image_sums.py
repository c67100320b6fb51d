"""Sums over the pixels of images, of each channel by itself, by one Triton kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch, unit_of

_FORMS = ((64, 64, 4), (64, 32, 4), (32, 128, 4), (128, 16, 8), (16, 128, 4), (256, 8, 8))
_FEW_PIXELS = ((64, 32, 4), (128, 16, 8), (16, 128, 4), (256, 8, 8))
_PROGRAMS = (1024, 264)  # that a launch should have: several, or two, for each part of a large GPU
_LEAST = 4  # steps of a program, at least, where an image is divided
_ROWS_OF_PARTS = 16


@dataclass(frozen=True)
class Sum:
    """What is computed of the pixels of a channel, in float32 and rounded once.

    Attributes:
        of_squares: their squares are summed up, not they themselves.
        is_mean: the sum is divided by their number.
        is_root: the square root is taken last.
    """

    of_squares: bool = False
    is_mean: bool = False
    is_root: bool = False

    def __str__(self) -> str:
        words = ("root" * self.is_root, "mean" if self.is_mean else "sum")
        return " ".join(filter(None, (*words, "squares" * self.of_squares)))


@dataclass(frozen=True)
class Division:
    """How a sum is divided.

    Attributes:
        rows, channels: that a program reads at a time; powers of 2.
        warps: of a program.
        parts: of each image, by programs of their own; a second launch adds them up.
    """

    rows: int
    channels: int
    warps: int
    parts: int = 1

    def __str__(self) -> str:
        return f"{self.rows}x{self.channels}w{self.warps}p{self.parts}"


def divisions(images: int, pixels: int, channels: int) -> list[Division]:
    """Those that are worth a trial for (images, pixels, channels), in the order of promise."""
    forms = _FORMS if pixels > 2 * _FORMS[0][0] else _FEW_PIXELS
    found: dict[Division, None] = {}
    for wanted in _PROGRAMS:
        for rows, width, warps in forms:
            programs = images * triton.cdiv(channels, width)
            most = max(1, pixels // (_LEAST * rows))
            parts = min(most, max(1, wanted // programs))
            found[Division(rows, width, warps, 1 << (parts.bit_length() - 1))] = None
    return list(found)


def image_sums(x: Tensor, how: Sum, dtype: torch.dtype, division: Division) -> Tensor:
    """`how` of each image and channel, (N, C) of type `dtype`.

    Args:
        x: (N, P, C), P pixels; without gaps, on a CUDA device.
    """
    n, pixels, c = x.shape
    y = torch.empty((n, c), dtype=dtype, device=x.device)
    if not y.numel():
        return y
    if division.parts == 1:
        _run(x, y, 1, pixels, how, division)
        return y
    sums = torch.empty((n, division.parts, c), dtype=torch.float32, device=x.device)
    _run(x, sums, division.parts, pixels, Sum(how.of_squares), division)
    rest = Division(_ROWS_OF_PARTS, division.channels, division.warps)
    _run(sums, y, 1, pixels, Sum(False, how.is_mean, how.is_root), rest)
    return y


def _run(x: Tensor, y: Tensor, parts: int, count: int, how: Sum, division: Division) -> None:
    n, pixels, c = x.shape
    unit = unit_of(c)
    launch(
        _image_sums, (n, triton.cdiv(c, division.channels), parts),
        x, y, pixels, triton.cdiv(pixels, parts), c // unit, count,
        how.of_squares, how.is_mean, how.is_root, division.rows, division.channels, unit,
        num_warps=division.warps,
    )  # fmt: skip


@triton.jit(do_not_specialize=["pixels", "per_part", "c", "count"])
def _image_sums(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, y, pixels, per_part, c, count,
    of_squares: tl.constexpr, is_mean: tl.constexpr, is_root: tl.constexpr,
    rows: tl.constexpr, channels: tl.constexpr, unit: tl.constexpr,
):  # fmt: skip
    """One program sums up `channels` of the `c` times `unit` channels of `per_part` pixels of one
    image."""
    c = c * unit
    image = tl.program_id(0).to(tl.int64)
    part, parts = tl.program_id(2), tl.num_programs(2)
    channel = tl.program_id(1) * channels + tl.arange(0, channels)
    end = tl.minimum((part + 1) * per_part, pixels)
    total = tl.zeros((rows, channels), tl.float32)
    for start in range(part * per_part, end, rows):
        row = start + tl.arange(0, rows)
        inside = (row < end)[:, None] & (channel < c)[None, :]
        at = x + (image * pixels + row)[:, None] * c + channel[None, :]
        value = tl.load(at, inside, 0.0).to(tl.float32)
        if of_squares:
            value *= value
        total += value
    found = tl.sum(total, 0)
    if is_mean:
        found = found / count
    if is_root:
        found = tl.sqrt_rn(found)
    tl.store(y + (image * parts + part) * c + channel, found.to(y.dtype.element_ty), channel < c)
