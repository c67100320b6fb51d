"""A fixed number of places for what was chosen: rows by their positions, padded."""

from __future__ import annotations

import math
from typing import NamedTuple

from trtnet.detection.settings import Detections
from trtnet.dtypes import int32
from trtnet.ops.elementwise import where
from trtnet.ops.indexing import gather_elements
from trtnet.ops.reduction import sum as sum_of
from trtnet.ops.shape import expand, slice_, unsqueeze
from trtnet.tensor import Tensor


class Rows(NamedTuple):
    """The best boxes of a mask.

    Attributes:
        at: (B, K) int32: their positions, 0 where there is none.
        is_one: (B, K) bool: whether there is one.
    """

    at: Tensor
    is_one: Tensor


def padded(
    rows: Rows, converged: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor, indices: Tensor
) -> Detections:
    """The detections, with zeros where `rows` has none."""
    number = sum_of(rows.is_one.to(int32), dim=1, keepdim=True).to(int32)
    number = where(unsqueeze(converged, 1), number, -1)
    is_one = rows.is_one
    return Detections(
        number,
        where(unsqueeze(is_one, -1), boxes, 0.0),
        where(is_one, scores, 0.0),
        where(is_one, classes.to(int32), 0),
        where(is_one, indices.to(int32), 0),
    )


def with_places(scores: Tensor, count: int) -> Tensor:
    """(B, N) `scores` with -inf added behind them where N may be less than `count`: no axis is
    shorter than its TopK."""
    batch, size = scores.shape
    if isinstance(size, int) and size >= count:
        return scores
    return slice_(scores, [0, 0], [batch, size + count], [1, 1], mode="FILL", fill=-math.inf)


def pick(x: Tensor, at: Tensor) -> Tensor:
    """The rows of `x`, (B, N) or (B, N, M), at the positions `at`, (B, K)."""
    if x.ndim == 3:
        at = expand(unsqueeze(at, -1), *at.shape, x.shape[-1])
    return gather_elements(x, 1, at)
