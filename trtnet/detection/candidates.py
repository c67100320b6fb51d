"""Detections among a limited number of candidates: of each level of a pyramid, or of each class.

Detectors choose the best pairs of a box and a class before they suppress. How many of what is a
part of the model: other boxes may be found with another choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from trtnet.detection.suppression import is_better, suppress
from trtnet.dtypes import float32
from trtnet.errors import UsageError
from trtnet.ops import windows
from trtnet.ops.elementwise import gt, where
from trtnet.ops.joining import cat
from trtnet.ops.reduction import all as all_of
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
    _check(per_level)
    found, before = [], 0
    for own, values in zip(boxes, scores, strict=True):
        best = _best_pairs(own.to(float32), values.to(float32), per_level, how.score_threshold)
        found.append(best._replace(indices=best.indices + before))
        before = before + own.shape[1]
    chosen = Candidates(*(cat(list(part), 1) for part in zip(*found, strict=True)))

    def choose(*parts: Tensor) -> Detections:
        some = Candidates(*parts[:4])
        groups = None if how.across_classes else some.labels
        return choose_among(some, how, is_better(some.scores), groups)

    return by_image(choose, how, *chosen)


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
    _check(per_class)

    def choose(boxes: Tensor, scores: Tensor) -> Detections:
        best = _best_of_classes(boxes, scores, per_class, how.score_threshold)
        batch, classes, count = best.scores.shape
        corners = reshape(best.boxes, batch * classes, count, 4)
        values = reshape(best.scores, batch * classes, count)
        kept = suppress(corners, gt(values, -math.inf), is_better(values), how.iou_threshold,
                        form=how.form, rounds=how.rounds)  # fmt: skip
        mask = reshape(kept.mask, batch, classes * count)
        converged = all_of(reshape(kept.converged, batch, classes), dim=1)
        flat = Candidates(*(flatten(x, 1, 2) for x in best))
        scored = with_places(where(mask, flat.scores, -math.inf), how.max_detections)
        found, order = top_k(scored, how.max_detections, 1, largest=True)
        is_one = gt(found, -math.inf)
        at = where(is_one, order, 0)
        return padded(Rows(at, is_one), converged, *(pick(x, at) for x in flat))

    return by_image(choose, how, boxes.to(float32), scores.to(float32))


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
    above = where(gt(scores, below(threshold)), scores, -math.inf)
    values, index = top_k(with_places(above, count), count, scores.ndim - 1, largest=True)
    return values, where(gt(values, -math.inf), index, 0)


def _check(count: int) -> None:
    if type(count) is not int or not 1 <= count <= LIMIT:
        raise UsageError("topk_candidates is a number of boxes", expected=f"1..{LIMIT}",
                         got=repr(count))  # fmt: skip
