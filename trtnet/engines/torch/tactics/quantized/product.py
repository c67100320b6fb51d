"""Products of codes by one Triton kernel: linear layers and 1×1 convolutions."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from trtnet.engines.torch.tactics.launching import launch
from trtnet.engines.torch.tactics.linear import Tile
from trtnet.engines.torch.tactics.quantized.finish import Finish, Operands, constants, finish

_ALIGNED = 16  # bytes


def product(
    x: Tensor, weight: Tensor, given: Operands, how: Finish, tile: Tile, by_engine: bool = False
) -> Tensor:
    """`how` of ``x @ weight.T``.

    Args:
        x: (M, K) codes, of any stride between rows and 1 in them, on a CUDA device.
        weight: (N, K) codes of the same type, without gaps.
        given: `other` of any stride between rows and 1 in them.
        tile: how the kernel works.
        by_engine: whether the GPU's copy engine brings the operands, block by block; it takes rows
            that begin at multiples of 16 bytes.

    Returns:
        (M, N), of the type ``how.dtype``.
    """
    (m, k), n = x.shape, weight.shape[0]
    y = torch.empty((m, n), dtype=how.dtype, device=x.device)
    if y.numel() == 0:
        return y
    grid = (triton.cdiv(m, tile.rows) * triton.cdiv(n, tile.columns),)
    operands: tuple[Any, ...] = (x, weight)
    if by_engine:
        x = x if x.data_ptr() % _ALIGNED == 0 else x.clone()
        operands = (
            TensorDescriptor.from_tensor(x, [tile.rows, tile.depth]),
            TensorDescriptor.from_tensor(weight, [tile.columns, tile.depth]),
        )
    launch(
        _product, grid,
        *operands, *given, y, m, n, k, x.stride(0),
        n if given.other is None else given.other.stride(0),
        **constants(given, how), is_float=x.dtype is not torch.int8, by_engine=by_engine,
        is_whole=k % tile.depth == 0, rows=tile.rows, columns=tile.columns, depth=tile.depth,
        num_stages=tile.stages, num_warps=tile.warps, enable_fp_fusion=False,
    )  # fmt: skip
    return y


@triton.jit
def place_of_tile(program, m, n, rows: tl.constexpr, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first row and column of the tile of `program`; 8 rows of tiles go together, so that their
    operands stay in the cache."""
    tiles_m, tiles_n = tl.cdiv(m, rows), tl.cdiv(n, columns)
    per_group = 8 * tiles_n
    group = program // per_group
    height = min(tiles_m - group * 8, 8)
    tile_m = group * 8 + (program % per_group) % height
    tile_n = (program % per_group) // height
    return tile_m * rows, tile_n * columns


@triton.jit(do_not_specialize=["m"])
def _product(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, weight, scales, bias, term, factor, other, y, m, n, k, x_m, o_m,
    step, reciprocal, other_step,
    has_bias: tl.constexpr, has_term: tl.constexpr, has_factor: tl.constexpr,
    has_other: tl.constexpr, of_codes: tl.constexpr, to_codes: tl.constexpr,
    divides: tl.constexpr, is_positive: tl.constexpr, middle: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    is_float: tl.constexpr, by_engine: tl.constexpr, is_whole: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """One program computes a tile of `rows` by `columns` values."""
    first_row, first_column = place_of_tile(tl.program_id(0), m, n, rows, columns)
    row, column = first_row + tl.arange(0, rows), first_column + tl.arange(0, columns)
    index = tl.arange(0, depth)
    row_in, column_in = row < m, column < n
    total = tl.zeros((rows, columns), tl.float32 if is_float else tl.int32)
    if by_engine:
        for i in range(tl.cdiv(k, depth)):
            left = x.load([first_row, i * depth])
            right = weight.load([first_column, i * depth])
            total = multiplied(left, right.T, total, is_float)
    else:
        a = x + row.to(tl.int64)[:, None] * x_m + index[None, :]
        b = weight + column.to(tl.int64)[None, :] * k + index[:, None]
        for i in range(tl.cdiv(k, depth)):
            if is_whole:
                left = tl.load(a, row_in[:, None], 0.0)
                right = tl.load(b, column_in[None, :], 0.0)
            else:
                inside = index < k - i * depth
                left = tl.load(a, row_in[:, None] & inside[None, :], 0.0)
                right = tl.load(b, column_in[None, :] & inside[:, None], 0.0)
            total = multiplied(left, right, total, is_float)
            a += depth
            b += depth
    finish(
        total, scales, bias, term, factor, other, y, row, column, m, n, o_m,
        step, reciprocal, other_step, has_bias, has_term, has_factor, has_other, of_codes,
        to_codes, divides, is_positive, middle,
        first, first_low, first_high, last, last_low, last_high,
    )  # fmt: skip


@triton.jit
def multiplied(left, right, total, is_float: tl.constexpr):  # type: ignore[no-untyped-def]
    """``total + left @ right``. Sums of FP8 products that the tensor cores make are not quite of
    float32: after 128 of them they are added in float32."""
    if is_float:
        most: tl.constexpr = min(left.shape[1], 128)
        total = tl.dot(left, right, total, max_num_imprecise_acc=most)
    else:
        total = tl.dot(left, right, total, out_dtype=tl.int32)
    return total
