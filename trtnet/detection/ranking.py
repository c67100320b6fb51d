"""Detections of detectors that need no suppression: the best scores as they are.

Carion et al., End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872: each
object is found once, which training sees to.
"""

from __future__ import annotations

import numpy as np

from trtnet.detection.overlap import below, fraction
from trtnet.detection.selection import Detections, pick
from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops.elementwise import eq, gt, where
from trtnet.ops.extremes import argmax
from trtnet.ops.reduction import sum as sum_of
from trtnet.ops.shape import flatten, unsqueeze
from trtnet.ops.top_k import LIMIT, top_k
from trtnet.tensor import Tensor, same_size, same_sizes


def best_detections(
    boxes: Tensor, scores: Tensor, max_detections: int, score_threshold: float = 0.0
) -> Detections:
    """The best pairs of a box and a class of each image, computed in float32.

    Of equal scores any may come first.

    Args:
        boxes: (B, N, 4) corners.
        scores: (B, N, C), of which at least `max_detections` for each image.
        max_detections: how many an image has at most; at most 3840.
        score_threshold: of 0..1: pairs with no higher score are dropped, and those whose score is
            NaN.

    Raises:
        ShapeError: shapes that do not fit together, or too few scores.
        UsageError: a number or a threshold that is impossible.
    """
    fraction("score_threshold", score_threshold)
    if type(max_detections) is not int or not 1 <= max_detections <= LIMIT:
        raise UsageError("max_detections is a number of boxes", expected=f"1..{LIMIT}",
                         got=repr(max_detections))  # fmt: skip
    _check(boxes, scores, max_detections)
    values, order = top_k(flatten(scores.to(float32), 1), max_detections, 1, largest=True)
    is_one = gt(values, below(score_threshold))
    number = sum_of(is_one.to(int32), dim=1, keepdim=True).to(int32)
    order = order.to(int32)
    box = order // scores.shape[2]
    label = order - box * scores.shape[2]
    corners = pick(boxes.to(float32), box)
    return Detections(
        number,
        where(unsqueeze(is_one, -1), corners, 0.0),
        where(is_one, values, 0.0),
        where(is_one, label, 0),
        where(is_one, box, 0),
    )


def of_best_class(scores: Tensor) -> Tensor:
    """`scores` (B, N, C), with 0 for all but the best class of a box, the first of equal ones."""
    classes = scores.shape[-1]
    assert isinstance(classes, int)
    numbers = scores.network.constant(np.arange(classes).reshape(1, 1, classes))
    return where(eq(argmax(scores, 2, keepdim=True), numbers), scores, 0.0)


def _check(boxes: Tensor, scores: Tensor, count: int) -> None:
    fits = boxes.ndim == scores.ndim == 3 and same_size(boxes.shape[2], 4)
    if not fits or not same_sizes(boxes.shape[:2], scores.shape[:2]):
        raise ShapeError("boxes and scores do not fit together", expected="(B, N, 4), (B, N, C)",
                         got=f"{boxes.shape}, {scores.shape}")  # fmt: skip
    pairs = scores.shape[1] * scores.shape[2]
    if not isinstance(pairs, int) or pairs < count:
        raise ShapeError("there are too few pairs of a box and a class to choose from",
                         expected=f"at least {count}", got=pairs,
                         fix="ask for fewer detections")  # fmt: skip
