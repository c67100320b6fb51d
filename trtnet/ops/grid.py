"""Sampling at positions of a grid, and the grids of affine maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.dtypes import float32
from trtnet.errors import ShapeError
from trtnet.ops.arguments import require
from trtnet.ops.division import div
from trtnet.ops.elementwise import add, mul, sub
from trtnet.ops.operands import as_tensor, insert_axes, is_size, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.shape import slice_
from trtnet.ops.windows import column, most, positions
from trtnet.tensor import Tensor, same_size, same_sizes

_MODES = {"bilinear": "LINEAR", "nearest": "NEAREST", "bicubic": "CUBIC"}
_PADDINGS = {"zeros": "FILL", "border": "CLAMP", "reflection": "REFLECT"}


@operator(methods=())
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """``torch.nn.functional.grid_sample``: `input` (N, C, H, W) or (N, C, D, H, W) at the
    positions `grid` (N, h, w, 2) or (N, d, h, w, 3), which are (x, y[, z]) from -1 to 1. A
    GridSample layer, in float32; that of TensorRT 10 takes images only, no volumes.

    Raises:
        ShapeError: ranks or sizes that do not fit. UnsupportedError: unknown modes.
    """
    require(mode in _MODES, f"grid_sample: unknown mode {mode!r}", expected=", ".join(_MODES))
    require(
        padding_mode in _PADDINGS,
        f"grid_sample: unknown padding_mode {padding_mode!r}",
        expected=", ".join(_PADDINGS),
    )
    _check(input, grid)
    require(
        mode != "bicubic" or input.ndim == 4, "grid_sample: bicubic is for images", got=repr(input)
    )
    network = input.network
    out = network.emit(
        "grid_sample",
        "add_grid_sample",
        network.cast(input, float32),
        network.cast(grid, float32),
        dims=[*input.shape[:2], *grid.shape[1:-1]],
        interpolation_mode=getattr(network.trt.InterpolationMode, _MODES[mode]),
        sample_mode=getattr(network.trt.SampleMode, _PADDINGS[padding_mode]),
        align_corners=bool(align_corners),
    )
    return network.casts.back(out, input.dtype)


def _check(x: Tensor, grid: Tensor) -> None:
    spatial = x.ndim - 2
    batches = x.shape[0], grid.shape[0] if grid.ndim else None
    fits = (
        spatial in (2, 3)
        and grid.ndim == x.ndim
        and same_size(grid.shape[-1], spatial)
        and (same_size(*batches) or not all(isinstance(size, int) for size in batches))
    )
    floating = x.dtype.is_floating_point and grid.dtype.is_floating_point
    require(floating, "grid_sample: needs floating-point tensors", got=f"{x!r}, {grid!r}")
    if not fits:
        raise ShapeError(
            "grid_sample: input and grid do not fit",
            expected="(N, C, H, W) and (N, h, w, 2), or (N, C, D, H, W) and (N, d, h, w, 3)",
            got=f"{x!r} and {grid!r}",
        )


@operator(methods=())
def affine_grid(theta: Tensor, size: Sequence[Any], align_corners: bool | None = None) -> Tensor:
    """``torch.nn.functional.affine_grid``: positions (N, H, W, 2) for `theta` (N, 2, 3) and
    `size` (N, C, H, W), or (N, D, H, W, 3) for (N, 3, 4) and (N, C, D, H, W). Sizes may be Dims.
    Computed in float32.

    Raises:
        ShapeError: sizes that do not fit.
    """
    sizes = list(size)
    rank = len(sizes) - 2
    wanted = (rank, rank + 1)
    if rank not in (2, 3) or theta.ndim != 3 or not same_sizes(theta.shape[1:], wanted):
        raise ShapeError(
            "affine_grid: theta and size do not fit",
            expected="theta (N, 2, 3) and 4 sizes, or theta (N, 3, 4) and 5",
            got=f"{theta!r} and {tuple(sizes)}",
        )
    if not all(is_size(n) and (not isinstance(n, int) or n > 0) for n in sizes):
        raise ShapeError("affine_grid: sizes must be positive ints", got=tuple(sizes))
    network = theta.network
    matrix = network.cast(theta, float32)
    total = _factor(matrix, rank, rank)
    for axis, count in enumerate(sizes[2:]):  # the last axis is x, the first number
        steps = column(_centered(matrix, count, bool(align_corners)), axis + 1, rank + 2)
        total = add(total, mul(_factor(matrix, rank, rank - 1 - axis), steps))
    return network.casts.back(total, theta.dtype)


def _factor(theta: Tensor, rank: int, index: int) -> Tensor:
    """Column `index` of every matrix, as (N, 1, .., 1, rank)."""
    n = theta.shape[0]
    part = slice_(theta, [0, 0, index], [n, rank, 1], [1, 1, 1])
    return insert_axes(remove_axes(part, [2]), list(range(1, rank + 1)))


def _centered(like: Tensor, count: Any, align_corners: bool) -> Tensor:
    """`count` positions from -1 to 1: of the outer pixels' centers with `align_corners`, else of
    their outer edges; 0 for one position."""
    network = like.network
    index = positions(network, count)
    numerator = sub(mul(index, 2), as_tensor(count - 1, index))
    steps = most(count - 1, 1) if align_corners else count
    divisor = network.cast(as_tensor(steps, index), float32)
    return div(network.cast(numerator, float32), divisor)
