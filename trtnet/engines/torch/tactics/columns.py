"""Channels of one or two tensors in another order, by one Triton kernel: a concatenation and the
shuffle after it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch

_VALUES = 4096  # of a program, at most


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
