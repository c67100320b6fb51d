"""Columns of several tensors as those of one, by one Triton kernel: concatenations, and a
concatenation with the shuffle after it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch, unit_of

_VALUES = 4096  # of a program, at most
_BLOCK = 2048  # values of a program that copies
TOGETHER = 4  # tensors that one launch copies


def take_columns(a: Tensor, b: Tensor, which: Tensor, place: Tensor, warps: int) -> Tensor:
    """Columns of `a` and `b`.

    Args:
        a, b: (M, C) and (M, D), of any stride between rows and 1 in them, on a CUDA device.
        which: (E,) int32: from which of them each column is, 0 or 1.
        place: (E,) int32: which column of it.
        warps: of a program.

    Returns:
        (M, E).
    """
    rows, columns = a.shape[0], place.shape[0]
    y = torch.empty((rows, columns), dtype=a.dtype, device=a.device)
    if y.numel():
        block = triton.next_power_of_2(columns)
        together = max(1, _VALUES // block)
        launch(
            _take_columns, (triton.cdiv(rows, together),),
            a, b, which, place, y, rows, columns, a.stride(0), b.stride(0), together, block,
            num_warps=warps,
        )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["rows"])
def _take_columns(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    a, b, which, place, y, rows, columns, a_m, b_m, together: tl.constexpr, block: tl.constexpr
):
    """One program moves `together` rows."""
    row = tl.program_id(0).to(tl.int64) * together + tl.arange(0, together)
    column = tl.arange(0, block)
    column_in = column < columns
    of_b = tl.load(which + column, column_in, 0) != 0
    source = tl.load(place + column, column_in, 0)
    inside = (row < rows)[:, None] & column_in[None, :]
    left = tl.load(a + row[:, None] * a_m + source[None, :], inside & ~of_b[None, :], 0.0)
    right = tl.load(b + row[:, None] * b_m + source[None, :], inside & of_b[None, :], 0.0)
    value = tl.where(of_b[None, :], right, left)
    tl.store(y + row[:, None] * columns + column[None, :], value, inside)


def put_columns(sources: Sequence[Tensor], begins: Sequence[int], y: Tensor) -> None:
    """Copies each of `sources` to the columns of `y` that begin at its number of `begins`.

    Args:
        sources: (M, C), each with its own C, of any stride between rows and 1 in them, on a CUDA
            device.
        begins: as many.
        y: (M, D), of any stride between rows and 1 in them, of the type of `sources`.
    """
    pairs = [pair for pair in zip(sources, begins, strict=True) if pair[0].numel()]
    for first in range(0, len(pairs), TOGETHER):
        some = pairs[first : first + TOGETHER]
        largest = max(x.numel() for x, _ in some)
        numbers = [n for x, begin in some for n in (x.shape[1], x.stride(0), begin)]
        missing = TOGETHER - len(some)
        unit = unit_of(y.stride(0), *numbers)
        launch(
            _put_columns, (triton.cdiv(largest, _BLOCK), len(some)),
            *(x for x, _ in some), *[None] * missing, y, y.shape[0], y.stride(0) // unit,
            *(n // unit for n in numbers), *[0] * 3 * missing, len(some), unit, _BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=[
    "rows", "y_m", *(f"{size}{i}" for size in ("columns", "m", "at") for i in range(4))
])  # fmt: skip
def _put_columns(  # type: ignore[no-untyped-def]  # as above
    x0, x1, x2, x3, y, rows, y_m,
    columns0, m0, at0, columns1, m1, at1, columns2, m2, at2, columns3, m3, at3,
    count: tl.constexpr, unit: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program copies `block` values of one of `count` tensors. Sizes and strides but `rows` are
    given in units, which lie one after the other."""
    which = tl.program_id(1)
    if which == 0:
        _put(x0, y, at0, rows, columns0, m0, y_m, True, unit, block)
    elif which == 1:
        _put(x1, y, at1, rows, columns1, m1, y_m, count > 1, unit, block)
    elif which == 2:
        _put(x2, y, at2, rows, columns2, m2, y_m, count > 2, unit, block)
    else:
        _put(x3, y, at3, rows, columns3, m3, y_m, count > 3, unit, block)


@triton.jit
def _put(  # type: ignore[no-untyped-def]  # as above
    x, y, at, rows, columns, x_m, y_m, is_given: tl.constexpr, unit: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    if is_given:
        start = tl.program_id(0).to(tl.int64) * (block // unit)
        group, within = tl.arange(0, block // unit)[:, None], tl.arange(0, unit)[None, :]
        offset = (start % columns).to(tl.int32) + group
        row, column = start // columns + offset // columns, offset % columns
        inside = (row < rows) & (within < unit)
        from_x = row * (x_m.to(tl.int64) * unit) + column * unit + within
        to_y = row * (y_m.to(tl.int64) * unit) + (at + column) * unit + within
        tl.store(y + to_y, tl.load(x + from_x, inside, 0.0), inside)
