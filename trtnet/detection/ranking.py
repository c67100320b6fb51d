"""Detections of detectors that need no suppression: the best scores as they are.

Carion et al., End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872: each
object is found once, which training sees to.
"""

from __future__ import annotations

import math

from trtnet.detection.overlap import below, fraction
from trtnet.detection.selection import Detections, Rows, padded, pick, with_places
from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops.elementwise import gt, where
from trtnet.ops.reduction import amax
from trtnet.ops.shape import flatten, unsqueeze
from trtnet.ops.top_k import LIMIT, top_k
from trtnet.tensor import Tensor, same_size, same_sizes


def best_detections(
    boxes: Tensor, scores: Tensor, max_detections: int, score_threshold: float = 0.0
) -> Detections:
    """The best pairs of a box and a class of each image, computed in float32. A box may be there
    with several classes.

    Of equal scores any may come first.

    Args:
        boxes: (B, N, 4) corners.
        scores: (B, N, C).
        max_detections: how many an image has at most; at most 3840.
        score_threshold: of 0..1: pairs with no higher score are dropped, and those whose score is
            NaN.

    Raises:
        ShapeError: shapes that do not fit together.
        UsageError: a number or a threshold that is impossible.
    """
    fraction("score_threshold", score_threshold)
    if type(max_detections) is not int or not 1 <= max_detections <= LIMIT:
        raise UsageError("max_detections is a number of boxes", expected=f"1..{LIMIT}",
                         got=repr(max_detections))  # fmt: skip
    _check(boxes, scores)
    classes, scores = scores.shape[2], scores.to(float32)
    above = where(gt(scores, below(score_threshold)), scores, -math.inf)
    boxes, above, index = _of_best_boxes(boxes.to(float32), above, max_detections)
    pairs = with_places(flatten(above, 1), max_detections)
    values, order = top_k(pairs, max_detections, 1, largest=True)
    is_one = gt(values, -math.inf)
    order = where(is_one, order, 0)
    at = order // classes
    box = at if index is None else pick(index, at)
    return padded(Rows(order, is_one), None, pick(boxes, at), values, order - at * classes, box)


def _of_best_boxes(
    boxes: Tensor, scores: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The `count` boxes with the best scores, their scores and their positions: no pair of another
    box is among the best `count`. All boxes where they are as few for certain."""
    size = scores.shape[1]
    if isinstance(size, int) and size <= count:
        return boxes, scores, None
    best, index = top_k(with_places(amax(scores, 2), count), count, 1, largest=True)
    is_one = gt(best, -math.inf)
    index = where(is_one, index, 0)
    chosen = where(unsqueeze(is_one, 2), pick(scores, index), -math.inf)
    return pick(boxes, index), chosen, index


def _check(boxes: Tensor, scores: Tensor) -> None:
    fits = boxes.ndim == scores.ndim == 3 and same_size(boxes.shape[2], 4)
    if not fits or not same_sizes(boxes.shape[:2], scores.shape[:2]):
        raise ShapeError("boxes and scores do not fit together", expected="(B, N, 4), (B, N, C)",
                         got=f"{boxes.shape}, {scores.shape}")  # fmt: skip
