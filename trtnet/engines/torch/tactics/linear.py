"""``epilogue(x @ weight.T)`` by one Triton kernel, for linear layers and 1×1 convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import activate, store_finished
from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.launching import launch, unit_of

_PROCESSORS = 132  # of the GPU for which the order of the tiles was tried; others time them anyway


@dataclass(frozen=True)
class Tile:
    """How one program works: it computes `rows` by `columns` values, `depth` products at a time."""

    rows: int
    columns: int
    depth: int
    stages: int
    warps: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth}s{self.stages}w{self.warps}"


TILES = (
    Tile(16, 32, 128, 4, 2),
    Tile(16, 64, 128, 4, 4),
    Tile(32, 32, 128, 4, 4),
    Tile(32, 64, 64, 5, 4),
    Tile(32, 128, 64, 4, 4),
    Tile(64, 32, 64, 5, 4),
    Tile(64, 64, 64, 4, 4),
    Tile(64, 64, 32, 4, 4),
    Tile(64, 128, 64, 4, 4),
    Tile(128, 32, 32, 4, 4),
    Tile(128, 64, 64, 4, 4),
    Tile(128, 64, 32, 4, 4),
    Tile(128, 128, 64, 3, 8),
    Tile(128, 128, 32, 4, 4),
    Tile(128, 256, 64, 3, 8),
    Tile(256, 128, 64, 3, 8),
)


def tiles(rows: int, columns: int, depth: int, count: int) -> list[Tile]:
    """The `count` tiles that promise most for a product of these sizes, best first."""
    return sorted(TILES, key=lambda tile: estimate(tile, rows, columns, depth))[:count]


def estimate(tile: Tile, rows: int, columns: int, depth: int) -> float:
    """A time, in no unit: waves of programs, each of which loads operands and multiplies."""
    programs = math.ceil(rows / tile.rows) * math.ceil(columns / tile.columns)
    resident = max(1, min(4, 8 // tile.warps))
    waves = max(1.0, programs / (_PROCESSORS * resident))
    steps = math.ceil(depth / tile.depth)
    loads = (tile.rows + tile.columns) * tile.depth / 4096
    products = tile.rows * tile.columns * tile.depth / (128 * 128 * 64)
    return waves * (2 + steps * (0.4 + max(loads, products) * max(1, resident / 2)))


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    gate: Tensor | None,
    source: Tensor | None,
    target: Tensor | None,
    epilogue: Epilogue,
    tile: Tile,
    *,
    added: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    before: Activation = NOTHING,
    out: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """``epilogue(x @ weight.T + bias)``.

    Args:
        x: (R, K), of any stride between rows and 1 in them; half precision on a CUDA device.
        weight: (N, K), of any strides.
        bias, factor: (N,).
        other: (M, N), strides as `x`.
        gate: (B, K) with M a multiple of B: `x` is multiplied by it first, image by image, and
            rounded. Without `source`.
        source: (M,) int32: the rows of `x` that are multiplied; all, in order, without it.
        target: (M,) int32: the row of the product that each row of the result is, a permutation;
            `other` lies as the result does.
        tile: how.
        added: as `x`, to which it is added first, and the sum rounded. Without `gate`.
        scale, shift, before: (K,): `x` is ``before(x * scale + shift)``, rounded. Both or none,
            and without `gate` and `added`.
        out: (M, N) where the result is written, of any stride between rows and 1 in them; of one
            axis with `places`.
        places: (3, N) int64: the columns in order, where in `out` the first row of each goes, and
            how far its rows are apart there.

    Returns:
        (M, N), of the type of `x`; `out` where that is given.
    """
    k, n = x.shape[1], weight.shape[0]
    m = x.shape[0] if source is None else source.shape[0]
    y = torch.empty((m, n), dtype=x.dtype, device=x.device) if out is None else out
    if m * n == 0:
        return y
    grid = (triton.cdiv(m, tile.rows) * triton.cdiv(n, tile.columns),)
    first, last = epilogue.first, epilogue.last
    near_n, near_k = (stride == 1 for stride in weight.stride())
    given = (
        x.stride(0),
        0 if near_n else weight.stride(0),
        0 if near_k else weight.stride(1),
        k if added is None else added.stride(0),
    )
    made = (
        n if other is None else other.stride(0),
        y.stride(0) if places is None else 0,
    )
    unit, unit_n = unit_of(k, *given), unit_of(n, *made)
    launch(
        _linear, grid,
        x, weight, bias, factor, other, gate, source, target, added, scale, shift, places, y,
        m, n // unit_n, k // unit, *(step // unit for step in given),
        *(step // unit_n for step in made),
        1 if gate is None else m // gate.shape[0],
        bias is not None, factor is not None, other is not None, gate is not None,
        source is not None, target is not None, added is not None, scale is not None,
        places is not None,
        before.kind, before.low, before.high,
        first.kind, first.low, first.high, last.kind, last.low, last.high,
        near_n, near_k, unit, unit_n, k % tile.depth == 0, tile.rows, tile.columns, tile.depth,
        num_stages=tile.stages, num_warps=tile.warps,
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=[
    "m", "n", "k", "x_m", "w_n", "w_k", "a_m", "o_m", "y_m", "rows_per_gate"
])  # fmt: skip
def _linear(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, weight, bias, factor, other, gate, source, target, added, scale, shift, places, y,
    m, n, k, x_m, w_n, w_k, a_m, o_m, y_m, rows_per_gate,
    has_bias: tl.constexpr, has_factor: tl.constexpr, has_other: tl.constexpr,
    has_gate: tl.constexpr, has_source: tl.constexpr, has_target: tl.constexpr,
    has_added: tl.constexpr, has_scale: tl.constexpr, has_places: tl.constexpr,
    before: tl.constexpr, before_low: tl.constexpr, before_high: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
    near_n: tl.constexpr, near_k: tl.constexpr, unit: tl.constexpr, unit_n: tl.constexpr,
    is_whole: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """One program computes a tile of `rows` by `columns` values; 8 rows of tiles go together, so
    that their operands stay in the cache. Sizes and strides but `m` are given in units: `unit_n`
    for those of the result, `unit` for the others."""
    n, k = n * unit_n, k * unit
    x_m, o_m = x_m.to(tl.int64) * unit, o_m.to(tl.int64) * unit_n
    a_m, y_m = a_m.to(tl.int64) * unit, y_m.to(tl.int64) * unit_n
    w_n, w_k = 1 if near_n else w_n * unit, 1 if near_k else w_k * unit
    program = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(m, rows), tl.cdiv(n, columns)
    per_group = 8 * tiles_n
    group = program // per_group
    first_row = group * 8
    height = min(tiles_m - first_row, 8)
    tile_m = first_row + (program % per_group) % height
    tile_n = (program % per_group) // height

    row = tile_m * rows + tl.arange(0, rows)
    column = tile_n * columns + tl.arange(0, columns)
    step = tl.arange(0, depth)
    row_in, column_in = row < m, column < n
    # Where rows go to other places, the program computes rows of the result.
    multiplied = row
    if has_target:
        multiplied = tl.load(target + row, row_in, 0)
    if has_source:
        multiplied = tl.load(source + multiplied, row_in, 0)
    a = x + multiplied.to(tl.int64)[:, None] * x_m + step[None, :]
    b = weight + column.to(tl.int64)[None, :] * w_n + step[:, None] * w_k
    # Where there are none, nothing is read of these.
    g, more = a, a
    if has_gate:
        g = gate + (row // rows_per_gate)[:, None] * k + step[None, :]
    if has_added:
        more = added + multiplied.to(tl.int64)[:, None] * a_m + step[None, :]
    total = tl.zeros((rows, columns), tl.float32)
    for i in range(tl.cdiv(k, depth)):
        if is_whole:
            left = _left(a, g, more, row_in[:, None], has_gate, has_added)
            right = tl.load(b, column_in[None, :], 0.0)
        else:
            inside = step < k - i * depth
            left = _left(a, g, more, row_in[:, None] & inside[None, :], has_gate, has_added)
            right = tl.load(b, column_in[None, :] & inside[:, None], 0.0)
        if has_scale:
            at = i * depth + step
            ratio = tl.load(scale + at, at < k, 0.0).to(tl.float32)
            term = tl.load(shift + at, at < k, 0.0).to(tl.float32)
            wide = left.to(tl.float32) * ratio[None, :] + term[None, :]
            left = activate(wide, before, before_low, before_high).to(left.dtype)
        total = tl.dot(left, right, total)
        a += depth
        b += depth * w_k
        g += depth
        more += depth
    if has_places:
        begin = tl.load(places + n + column, column_in, 0)
        apart = tl.load(places + 2 * n + column, column_in, 0)
        at = y + begin[None, :] + row.to(tl.int64)[:, None] * apart[None, :]
    else:
        at = y + row.to(tl.int64)[:, None] * y_m + column[None, :]
    store_finished(
        total, bias, factor, other, at, row, column, row_in, column_in, o_m,
        has_bias, has_factor, has_other, first, first_low, first_high, last, last_low, last_high,
    )  # fmt: skip


@triton.jit
def _left(a, g, more, inside, has_gate: tl.constexpr, has_added: tl.constexpr):  # type: ignore[no-untyped-def]  # as above
    """The left operand: times the gate, or with what is added, rounded."""
    left = tl.load(a, inside, 0.0)
    if has_gate:
        left = left * tl.load(g, inside, 0.0)
    if has_added:
        left = left + tl.load(more, inside, 0.0)
    return left
