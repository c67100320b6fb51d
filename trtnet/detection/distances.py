"""Boxes as distances from a point to their four sides, and distances as distributions."""

from __future__ import annotations

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError
from trtnet.ops.joining import cat
from trtnet.ops.reduction import sum as sum_of
from trtnet.ops.shape import reshape, slice_
from trtnet.ops.softmax import softmax
from trtnet.tensor import Tensor, same_size


def boxes_around(points: Tensor, distances: Tensor) -> Tensor:
    """Corners (…, 4) float32 of the boxes whose left, top, right and bottom sides lie at
    `distances` from `points`.

    Args:
        points: (…, 2), x and y; its shape broadcasts with that of the distances.
        distances: (…, 4) to the left, top, right and bottom, in the points' unit.

    Raises:
        ShapeError: other last axes.
    """
    _check("points", points, 2)
    _check("distances", distances, 4)
    points, distances = points.to(float32), distances.to(float32)
    near, far = halves(distances)
    return cat([points - near, points + far], -1)


def expected_distances(logits: Tensor, bins: int, values: Tensor | None = None) -> Tensor:
    """Distances (…, 4) float32, the expectations of four distributions.

    Li et al., Generalized Focal Loss, https://arxiv.org/abs/2006.04388 (its Integral).

    Args:
        logits: (…, 4·bins) before the softmax, the bins of one side together.
        values: (bins,), what the bins stand for; by default 0, 1, … bins-1.

    Raises:
        ShapeError: another last axis.
    """
    _check("logits of distances", logits, 4 * bins)
    shape = logits.shape[:-1]
    chances = softmax(reshape(logits.to(float32), *shape, 4, bins), -1)
    if values is None:
        values = logits.network.constant(np.arange(bins, dtype=np.float32))
    # No matrix product: in TF32 it would be wrong by a thousandth of the bins.
    return sum_of(chances * values.to(float32), dim=-1)


def halves(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last two of the four numbers (…, 4), (…, 2) each."""
    size, rank = boxes.shape[:-1], boxes.ndim
    first, second = ([0] * (rank - 1) + [start] for start in (0, 2))
    return tuple(slice_(boxes, start, [*size, 2], [1] * rank) for start in (first, second))  # type: ignore[return-value]


def _check(what: str, x: Tensor, size: int) -> None:
    if not x.ndim or not same_size(x.shape[-1], size):
        raise ShapeError(f"{what} have {size} numbers each", expected=f"(..., {size})", got=x.shape)
