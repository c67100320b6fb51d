"""Channels of an image to the places where they are read, by one Triton kernel: what is left of
concatenations, parts and shuffles of channels."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch

_VALUES, _WIDEST = 4096, 1024  # of a program, at most, and of one of its rows
_WARPS = 4


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
