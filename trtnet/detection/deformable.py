"""Multi-scale deformable attention: each query reads a few places of several feature maps.

Zhu et al., Deformable DETR, https://arxiv.org/abs/2010.04159, equation 3. A place between pixels is
interpolated bilinearly, and outside of a map there are zeros, as in
``torch.nn.functional.grid_sample(align_corners=False)``.

There are two forms with the same results. ``"layer"`` is one GridSample layer for each map;
``"gathers"`` picks the four pixels around each place with one Gather of all maps, for versions of
TensorRT that compile GridSample wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops import windows
from trtnet.ops.elementwise import eq, floor, ge, logical_and, lt, where
from trtnet.ops.grid import grid_sample
from trtnet.ops.joining import cat, unbind
from trtnet.ops.positions import take_slices
from trtnet.ops.reduction import sum as sum_of
from trtnet.ops.shape import expand, flatten, permute, reshape, slice_, unsqueeze
from trtnet.tensor import Tensor, same_size, same_sizes

SAMPLINGS = ("layer", "gathers")


def deformable_attention(
    value: Tensor,
    sizes: Sequence[tuple[int, int]],
    points: Sequence[int],
    locations: Tensor,
    weights: Tensor,
    sampling: str = "layer",
) -> Tensor:
    """(B, Q, heads·D): for each query the weighted sum of what it reads, in the type of `value`.

    Places, weights and sums are float32 whatever the type of `value`. A place that is NaN gives
    NaN; one outside of the map, however far, gives zeros, and so does a map without pixels.

    Args:
        value: (B, N, heads, D): the pixels of all maps, row by row, map after map.
        sizes: height and width of each map; N is the sum of their products.
        points: how many places a query reads in each map.
        locations: (B, Q, heads, sum(points), 2): x and y, 0 and 1 being the outer edges of a map.
        weights: (B, Q, heads, sum(points)).
        sampling: ``"layer"`` or ``"gathers"``.

    Raises:
        ShapeError: shapes that do not fit together, or maps whose size is known only at run time.
        UsageError: another form.
    """
    checked_sampling(sampling)
    _check(value, sizes, points, locations, weights)
    sample = _by_layer if sampling == "layer" else _by_gathers
    total = sample(value, sizes, points, locations.to(float32), weights.to(float32))
    batch, queries = locations.shape[:2]
    return reshape(total, batch, queries, value.shape[2] * value.shape[3]).to(value.dtype)


def checked_sampling(value: str) -> str:
    """`value`, one of :data:`SAMPLINGS`.

    Raises:
        UsageError: it is none of them.
    """
    if value not in SAMPLINGS:
        raise UsageError("no such form of deformable attention", expected=" or ".join(SAMPLINGS),
                         got=repr(value), fix='sampling="layer"')  # fmt: skip
    return value


def _check(
    value: Tensor, sizes: Sequence[Any], points: Sequence[int], locations: Tensor, weights: Tensor
) -> None:
    if any(not isinstance(side, int) for size in sizes for side in size):
        raise ShapeError("deformable attention needs maps of fixed sizes", got=list(sizes),
                         fix="give height and width of the network's input as numbers")  # fmt: skip
    pixels = sum(height * width for height, width in sizes)
    places = (*locations.shape[:3], sum(points))
    fits = (
        value.ndim == 4
        and locations.ndim == 5
        and len(points) == len(sizes)
        and same_size(value.shape[1], pixels)
        and same_sizes(locations.shape[3:], (sum(points), 2))
        and same_size(locations.shape[2], value.shape[2])
        and same_sizes(weights.shape, places)
        and all(isinstance(side, int) for side in value.shape[2:])
    )
    if not fits:
        raise ShapeError(
            "deformable attention: the tensors do not fit together",
            expected=f"value (B, {pixels}, heads, D), locations (B, Q, heads, {sum(points)}, 2), "
            f"weights (B, Q, heads, {sum(points)})",
            got=f"{value.shape}, {locations.shape}, {weights.shape}, {len(points)} numbers of "
            f"points for {len(sizes)} maps",
        )


def _by_layer(
    value: Tensor, sizes: Sequence[tuple[int, int]], points: Sequence[int], locations: Tensor,
    weights: Tensor,
) -> Tensor:  # fmt: skip
    """(B, Q, heads, D) float32."""
    batch, _, heads, width = value.shape
    queries = locations.shape[1]
    maps = permute(value.to(float32), 0, 2, 3, 1)
    grid = permute(locations * 2.0 - 1.0, 0, 2, 1, 3, 4)
    read, pixel, place = [], 0, 0
    for (rows, columns), count in zip(sizes, points, strict=True):
        if rows * columns and count:
            level = slice_(maps, [0, 0, 0, pixel], [batch, heads, width, rows * columns], [1] * 4)
            level = reshape(level, batch * heads, width, rows, columns)
            around = [batch, heads, queries, count, 2]
            at = reshape(slice_(grid, [0, 0, 0, place, 0], around, [1] * 5),
                         batch * heads, queries, count, 2)  # fmt: skip
            sampled = grid_sample(level, at, align_corners=False)
            part = slice_(weights, [0, 0, 0, place], [batch, queries, heads, count], [1] * 4)
            part = reshape(permute(part, 0, 2, 1, 3), batch * heads, 1, queries, count)
            read.append(sampled * part)
        pixel, place = pixel + rows * columns, place + count
    if not read:
        return _nothing(value, locations)
    total = sum_of(cat(read, 3), dim=3)
    return permute(reshape(total, batch, heads, width, queries), 0, 3, 1, 2)


def _by_gathers(
    value: Tensor, sizes: Sequence[tuple[int, int]], points: Sequence[int], locations: Tensor,
    weights: Tensor,
) -> Tensor:  # fmt: skip
    """(B, Q, heads, D) float32."""
    network = value.network
    batch, pixels, heads, _ = value.shape
    if not pixels:
        return _nothing(value, locations)
    rows, columns = (np.repeat([size[axis] for size in sizes], points) for axis in (0, 1))
    starts = np.repeat(np.cumsum([0, *(h * w for h, w in sizes[:-1])]), points)
    x, y = unbind(locations, -1)
    images = reshape(windows.positions(network, batch).to(int32), batch, 1, 1, 1)
    first = images * pixels + network.constant(starts.astype(np.int32))
    head = network.constant(np.arange(heads, dtype=np.int32).reshape(1, 1, heads, 1))
    table = flatten(value, 0, 2)
    picked, factors = [], []
    for row, row_weight, is_row in _neighbours(y, rows):
        for column, column_weight, is_column in _neighbours(x, columns):
            is_inside = logical_and(is_row, is_column)
            pixel = first + row * network.constant(columns.astype(np.int32)) + column
            index = where(is_inside, pixel * heads + head, 0)
            found = take_slices(table, index, 0).to(float32)
            picked.append(where(unsqueeze(is_inside, -1), found, 0.0))
            factors.append(row_weight * column_weight * weights)
    return sum_of(cat(picked, 3) * unsqueeze(cat(factors, 3), -1), dim=3)


def _neighbours(place: Tensor, counts: np.ndarray) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The two pixels beside each place along one axis: int32 positions, float32 weights, and
    whether they lie in the map.

    Args:
        place: (B, Q, heads, P) from 0 to 1.
        counts: (P,): how many pixels the axis has.
    """
    network = place.network
    count = network.constant(counts.astype(np.float32))
    is_number = eq(place, place)
    # Rounded as the layer and PyTorch do it; what is far outside is kept within the range of int32.
    at = ((place * 2.0 - 1.0 + 1.0) * count - 1.0) * 0.5
    at = where(is_number, at, 0.0).maximum(-2.0).minimum(float(counts.max()) + 1.0)
    lower = floor(at)
    upper_weight = where(is_number, at - lower, math.nan)
    found = []
    for step, weight in ((0.0, 1.0 - upper_weight), (1.0, upper_weight)):
        position = lower + step
        is_inside = logical_and(ge(position, 0.0), lt(position, count))
        found.append((position.to(int32), weight, is_inside))
    return found


def _nothing(value: Tensor, locations: Tensor) -> Tensor:
    """(B, Q, heads, D) zeros."""
    zeros = value.network.constant(np.zeros((1, 1, 1, 1), np.float32))
    return expand(zeros, *locations.shape[:3], value.shape[3])
