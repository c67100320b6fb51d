"""Detections among a limited number of candidates: of each level of a pyramid, of each class, or of
each box.

Detectors choose the best pairs of a box and a class before they suppress. How many of what is a
part of the model: other boxes may be found with another choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trtnet.detection.keeping import keep
from trtnet.detection.overlap import below
from trtnet.detection.selection import (
    Candidates,
    Detections,
    Rows,
    Suppression,
    by_image,
    choose_among,
    padded,
    pick,
    with_places,
)
from trtnet.dtypes import float32
from trtnet.errors import UsageError
from trtnet.ops import windows
from trtnet.ops.elementwise import gt, where
from trtnet.ops.extremes import argmax
from trtnet.ops.indexing import gather_elements
from trtnet.ops.joining import cat
from trtnet.ops.reduction import all as all_of
from trtnet.ops.reduction import amax
from trtnet.ops.shape import expand, flatten, reshape, transpose
from trtnet.ops.top_k import LIMIT, top_k
from trtnet.tensor import Tensor


def detections_of_levels(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], per_level: int, how: Suppression
) -> Detections:
    """The detections among the `per_level` best pairs of a box and a class of each level. The
    levels' boxes are counted through.

    Of equal scores the earlier level comes first; where more pairs of a level than `per_level`
    have the lowest score that still takes part, an engine may take any of them.

    Args:
        boxes: (B, N, 4) corners, for each level; N may differ.
        scores: (B, N, C), for each level.
        how: its number of candidates is not used.

    Raises:
        UsageError: a number of candidates that TensorRT cannot choose.
    """
    _checked(per_level)
    found, before = [], 0
    for own, values in zip(boxes, scores, strict=True):
        best = _best_pairs(own.to(float32), values.to(float32), per_level, how.score_threshold)
        found.append(best._replace(indices=best.indices + before))
        before = before + own.shape[1]
    chosen = Candidates(*(cat(list(part), 1) for part in zip(*found, strict=True)))

    def choose(*parts: Tensor) -> Detections:
        some = Candidates(*parts[:4])
        return choose_among(some, how, scores[0].shape[2])

    count = chosen.scores.shape[1]
    return by_image(choose, how, count * count, *chosen)


def detections_of_classes(
    boxes: Tensor, scores: Tensor, per_class: int, how: Suppression
) -> Detections:
    """The detections among the `per_class` best boxes of each class. Classes do not suppress each
    other.

    Of equal scores an engine may take any first.

    Args:
        boxes: (B, N, 4) corners.
        scores: (B, N, C).
        how: its number of candidates, and its limit for a class, are not used.

    Raises:
        UsageError: a number of candidates that TensorRT cannot choose.
    """
    _checked(per_class)

    def choose(boxes: Tensor, scores: Tensor) -> Detections:
        best = _best_of_classes(boxes, scores, per_class, how.score_threshold)
        batch, classes, count = best.scores.shape
        corners = reshape(best.boxes, batch * classes, count, 4)
        values = reshape(best.scores, batch * classes, count)
        kept = keep(corners, gt(values, -math.inf), values, how.iou_threshold,
                    form=how.form, rounds=how.rounds)  # fmt: skip
        mask = reshape(kept.mask, batch, classes * count)
        converged = all_of(reshape(kept.converged, batch, classes), dim=1)
        flat = Candidates(*(flatten(x, 1, 2) for x in best))
        scored = with_places(where(mask, flat.scores, -math.inf), how.max_detections)
        found, order = top_k(scored, how.max_detections, 1, largest=True)
        is_one = gt(found, -math.inf)
        at = where(is_one, order, 0)
        return padded(Rows(at, is_one), converged, *(pick(x, at) for x in flat))

    _, size, classes = scores.shape
    count = min(per_class, size) if isinstance(size, int) else per_class
    pairs = classes * count**2
    return by_image(choose, how, pairs, boxes.to(float32), scores.to(float32))


def detections_of_best_class(boxes: Tensor, scores: Tensor, how: Suppression) -> Detections:
    """The detections where a box takes part with its best class alone, the first of equal ones.

    Args:
        boxes: (B, N, 4) corners.
        scores: (B, N, C).
        how: its number of candidates is one of boxes.

    Raises:
        UsageError: a number of candidates that TensorRT cannot choose.
    """
    limit = _checked(how.candidates)

    def choose(boxes: Tensor, scores: Tensor) -> Detections:
        above = _above(scores, how.score_threshold)
        values, index = _best(amax(above, 2), limit, how.score_threshold)
        label = gather_elements(argmax(above, 2), 1, index)
        chosen = Candidates(pick(boxes, index), values, label, index)
        order = label * scores.shape[1] + index  # of equal scores the lower class comes first
        return choose_among(chosen, how, scores.shape[2], order)

    return by_image(choose, how, limit * limit, boxes.to(float32), scores.to(float32))


def _best_pairs(boxes: Tensor, scores: Tensor, count: int, threshold: float) -> Candidates:
    """Of all classes together: (B, `count`), fewer where there are fewer pairs for certain."""
    classes = scores.shape[2]
    values, order = _best(flatten(scores, 1), count, threshold)
    index = order // classes
    return Candidates(pick(boxes, index), values, order - index * classes, index)


def _best_of_classes(boxes: Tensor, scores: Tensor, count: int, threshold: float) -> Candidates:
    """Of each class: (B, C, `count`), fewer where there are fewer boxes for certain."""
    batch, _, classes = scores.shape
    values, index = _best(transpose(scores, 1, 2), count, threshold)
    corners = reshape(pick(boxes, flatten(index, 1)), batch, classes, values.shape[2], 4)
    label = windows.positions(scores.network, classes).reshape(1, -1, 1)
    return Candidates(corners, values, expand(label, *values.shape), index)


def _best(scores: Tensor, count: int, threshold: float) -> tuple[Tensor, Tensor]:
    """The best of the last axis above a threshold, -inf where there are fewer; and their positions,
    0 there."""
    size = scores.shape[-1]
    count = min(count, size) if isinstance(size, int) else count
    above = with_places(_above(scores, threshold), count)
    values, index = top_k(above, count, scores.ndim - 1, largest=True)
    return values, where(gt(values, -math.inf), index, 0)


def _above(scores: Tensor, threshold: float) -> Tensor:
    """`scores`, -inf where they are not above a threshold, or NaN."""
    return where(gt(scores, below(threshold)), scores, -math.inf)


def _checked(count: int | None) -> int:
    if type(count) is not int or not 1 <= count <= LIMIT:
        raise UsageError("topk_candidates is a number of boxes", expected=f"1..{LIMIT}",
                         got=repr(count))  # fmt: skip
    return count
