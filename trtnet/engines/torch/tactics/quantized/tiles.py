"""Which tiles promise most for a product of codes."""

from __future__ import annotations

import math
from dataclasses import replace

from trtnet.engines.torch.tactics.linear import Tile

TILES = (
    Tile(16, 64, 256, 4, 4),
    Tile(32, 64, 256, 3, 4),
    Tile(64, 64, 128, 4, 4),
    Tile(64, 128, 128, 4, 4),
    Tile(64, 128, 64, 4, 4),
    Tile(64, 256, 64, 4, 4),
    Tile(128, 64, 64, 4, 4),
    Tile(128, 64, 128, 4, 4),
    Tile(128, 128, 64, 4, 8),
    Tile(128, 128, 128, 3, 8),
    Tile(128, 256, 64, 4, 8),
    Tile(128, 256, 128, 3, 8),
    Tile(256, 64, 64, 4, 8),
    Tile(256, 128, 64, 4, 8),
    Tile(256, 128, 128, 3, 8),
)

# Of the GPU for which the order was tried; others time the tiles anyway.
_PROCESSORS = 132
_SHARED, _REGISTERS = 227 << 10, 1 << 16
_OWN = 48  # registers of a thread beside its sums
_SHALLOWEST = 32
_WAIT, _STEP = 2500, 60  # clocks


def tiles(rows: int, columns: int, depth: int, count: int, windows: int = 1) -> list[Tile]:
    """The `count` tiles that promise most, best first.

    Args:
        rows, columns: of the result.
        depth: products of a sum, of each of `windows` positions of a window.
    """
    deepest = max(_SHALLOWEST, 1 << (depth - 1).bit_length())
    fitting = dict.fromkeys(replace(tile, depth=min(tile.depth, deepest)) for tile in TILES)

    def estimate(tile: Tile) -> float:
        return _estimate(tile, rows, columns, windows * math.ceil(depth / tile.depth))

    ordered = sorted(fitting, key=estimate)
    shapes = list({(tile.rows, tile.columns): tile for tile in reversed(ordered)}.values())
    first = sorted(shapes, key=estimate)  # of each shape the best; then other depths
    return [*first, *(tile for tile in ordered if tile not in first)][:count]


def _estimate(tile: Tile, rows: int, columns: int, steps: int) -> float:
    """Clocks, about: what a program waits for, when it begins and when it ends, is hidden by the
    others on its processor, and so is the work of one unit by that of another."""
    programs = math.ceil(rows / tile.rows) * math.ceil(columns / tile.columns)
    resident = min(_resident(tile), math.ceil(programs / _PROCESSORS))
    rounds = math.ceil(programs / (_PROCESSORS * resident))
    multiply = max(tile.rows, 64) * tile.columns * tile.depth / 3000
    load = (tile.rows + tile.columns) * tile.depth / 40
    main, finish = steps * (_STEP + max(multiply, load)), tile.rows * tile.columns / 8
    alone = _WAIT + main + finish
    together = resident * (max(main, finish) + 0.3 * min(main, finish))
    return rounds * max(alone, together)


def _resident(tile: Tile) -> int:
    """How many programs fit onto a processor together."""
    shared = tile.stages * (tile.rows + tile.columns) * tile.depth
    registers = tile.rows * tile.columns + _OWN * 32 * tile.warps
    return max(1, min(_SHARED // shared, _REGISTERS // registers, 64 // tile.warps))
