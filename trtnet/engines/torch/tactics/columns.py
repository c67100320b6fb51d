"""Channels of an image to the places where they are read, by one Triton kernel: what is left of
concatenations, parts and shuffles of channels."""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch, unit_of

_VALUES, _WIDEST = 4096, 1024  # of a program, at most, and of one of its rows
_WARPS = 4
_BLOCK = 2048  # values of a program that copies
TOGETHER = 4  # tensors that one launch copies


def put_columns(x: Tensor, places: Tensor, into: Tensor) -> Tensor:
    """Writes columns of `x` to their places.

    Args:
        x: (M, C), of any stride between rows and 1 in them, on a CUDA device.
        places: (3, E) int64: which column of `x` each is, where in `into` its first row goes, and
            how far its rows are apart there.
        into: of one axis, of the type of `x`.

    Returns:
        `into`.
    """
    rows, entries = x.shape[0], places.shape[1]
    if rows and entries:
        block = min(_WIDEST, triton.next_power_of_2(entries))
        together = max(1, _VALUES // block)
        grid = (triton.cdiv(rows, together), triton.cdiv(entries, block))
        launch(
            _put_columns, grid, x, places, into, rows, entries, x.stride(0), together, block,
            num_warps=_WARPS,
        )  # fmt: skip
    return into


@triton.jit(do_not_specialize=["rows"])
def _put_columns(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, places, y, rows, entries, x_m, together: tl.constexpr, block: tl.constexpr
):
    """One program moves `block` columns of `together` rows."""
    row = tl.program_id(0).to(tl.int64) * together + tl.arange(0, together)
    entry = tl.program_id(1) * block + tl.arange(0, block)
    entry_in = entry < entries
    column = tl.load(places + entry, entry_in, 0)
    begin = tl.load(places + entries + entry, entry_in, 0)
    apart = tl.load(places + 2 * entries + entry, entry_in, 0)
    inside = (row < rows)[:, None] & entry_in[None, :]
    value = tl.load(x + row[:, None] * x_m + column[None, :], inside, 0.0)
    tl.store(y + begin[None, :] + row[:, None] * apart[None, :], value, inside)


def copy_columns(sources: Sequence[Tensor], begins: Sequence[int], y: Tensor) -> None:
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
            _copy_columns, (triton.cdiv(largest, _BLOCK), len(some)),
            *(x for x, _ in some), *[None] * missing, y, y.shape[0], y.stride(0) // unit,
            *(n // unit for n in numbers), *[0] * 3 * missing, len(some), unit, _BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=[
    "rows", "y_m", *(f"{size}{i}" for size in ("columns", "m", "at") for i in range(4))
])  # fmt: skip
def _copy_columns(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
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
def _put(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
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
