"""From scored boxes to a fixed number of detections: candidates, suppression, the best first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trtnet.detection.nms_layer import detections_by_layer
from trtnet.detection.overlap import below
from trtnet.detection.places import Rows, padded, pick, with_places
from trtnet.detection.settings import Detections, Suppression
from trtnet.detection.suppression import Kept, is_better, positions, suppress
from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError
from trtnet.ops.elementwise import eq, gt, logical_and, logical_not, logical_or, lt, ne, where
from trtnet.ops.joining import stack, unbind
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor
from trtnet.ops.reduction import all as all_of
from trtnet.ops.reduction import any as any_of
from trtnet.ops.shape import flatten, transpose, unsqueeze
from trtnet.ops.top_k import top_k
from trtnet.tensor import Tensor, same_size, same_sizes

_DIGIT = 1024


def detections(boxes: Tensor, scores: Tensor, how: Suppression | None = None) -> Detections:
    """The detections among N boxes of B images.

    Of equal scores the lower class comes first, then the lower box. Where more than
    ``how.candidates`` pairs of a box and a class have the lowest score that still takes part, an
    engine may take any of them. Boxes with a NaN overlap nothing. All is computed in float32,
    whatever the policy.

    Who suppresses is the network's choice, see :class:`trtnet.Network`: layers of arithmetic
    (``"native"``), TensorRT's own layer, whose limits :func:`detections_by_layer` tells, or the
    plugin ``greedy_nms``, whose boxes are those of the native form.

    Args:
        boxes: (B, N, 4) corners, or (B, N, C, 4), one for each class.
        scores: (B, N, C).
        how: by default as :class:`Suppression`.

    Raises:
        ShapeError: shapes that do not fit together, or more than 3840 places for detections.
        UsageError: a threshold outside of 0..1.
    """
    how = how or Suppression()
    _check(boxes, scores)
    boxes, scores = boxes.to(float32), scores.to(float32)
    if scores.network.choose_nms() == "layer":
        return detections_by_layer(boxes, scores, how)
    choose = _class_by_class if how.candidates is None else _together
    if how.images == "together":
        return choose(boxes, scores, how)
    loop = scores.network.loop(_count(scores, scores.shape[0]))
    one = [unsqueeze(loop.slices(x, 0), 0) for x in (boxes, scores)]
    found = choose(one[0], one[1], how)
    return Detections(*(loop.stacked(x.squeeze(0), 0, scores.shape[0]) for x in found))


def _count(like: Tensor, size: Any) -> Tensor:
    """`size`, an int or a Dim, as an int32 scalar."""
    if isinstance(size, int):
        return like.network.constant(size, int32)
    return as_tensor(size, like, align=False).to(int32)


def _check(boxes: Tensor, scores: Tensor) -> None:
    shape = boxes.shape
    fits = scores.ndim == 3 and len(shape) in (3, 4) and same_size(shape[-1], 4)
    if not fits or not same_sizes(shape[:-1], scores.shape[: len(shape) - 1]):
        raise ShapeError(
            "boxes and scores do not fit together",
            expected="(B, N, 4) or (B, N, C, 4), and (B, N, C)",
            got=f"{shape} and {scores.shape}",
        )


def _together(boxes: Tensor, scores: Tensor, how: Suppression) -> Detections:
    """All classes at once, among the best pairs of a box and a class."""
    assert how.candidates is not None
    count, classes = scores.shape[1:]
    taking_part = where(gt(scores, below(how.score_threshold)), scores, -math.inf)
    flat = flatten(transpose(taking_part, 1, 2), 1)  # of equal scores the lower class comes first
    values, order = top_k(with_places(flat, how.candidates), how.candidates, 1, largest=True)
    found = gt(values, -math.inf)
    order = where(found, order, 0)
    label = order // count
    index = order - label * count
    at = index if boxes.ndim == 3 else index * classes + label
    corners = pick(flatten(boxes, 1, -2), at)
    groups = None if how.across_classes or same_size(classes, 1) else label
    better = is_better(values, order)
    kept = _suppressed(corners, found, values, order, better, groups, how)
    mask = _limited(kept.mask, better, label, how.max_per_class)
    rows = _best(mask, better, how.max_detections)
    return padded(rows, kept.converged, pick(corners, rows.at), pick(values, rows.at),
                   pick(label, rows.at), pick(index, rows.at))  # fmt: skip


def _suppressed(
    boxes: Tensor,
    found: Tensor,
    scores: Tensor,
    order: Tensor,
    better: Tensor,
    groups: Tensor | None,
    how: Suppression,
) -> Kept:
    """Those of `found` that are kept, by the native form or the plugin."""
    if boxes.network.choose_nms() == "native":
        return suppress(boxes, found, better, how.iou_threshold, groups=groups, form=how.form,
                        rounds=how.rounds)  # fmt: skip
    from trtnet.detection.greedy_nms.declaration import GreedyNms

    none = found.to(int32) * 0
    rest = [none + x.to(int32) if x is not None else none for x in (order, groups)]
    mask = ne(GreedyNms(how.iou_threshold)(boxes, found.to(int32), scores, *rest), 0)
    return Kept(mask, any_of(logical_or(mask, logical_not(mask)), dim=-1))


def _limited(mask: Tensor, better: Tensor, labels: Tensor, limit: int | None) -> Tensor:
    """`mask` without what is worse than the first `limit` of its class."""
    if limit is None:
        return mask
    of_class = logical_and(better, eq(unsqueeze(labels, -1), unsqueeze(labels, -2)))
    return logical_and(mask, lt(_count_before(mask, of_class), float(limit)))


def _count_before(mask: Tensor, better: Tensor) -> Tensor:
    """(B, N) float32: how many boxes of `mask` are better than each. Exact below 2**24."""
    return matmul(unsqueeze(mask.to(float32), 1), better.to(float32)).squeeze(1)


def _best(mask: Tensor, better: Tensor, count: int) -> Rows:
    """The best `count` boxes of `mask`, in order."""
    network = mask.network
    place = _count_before(mask, better)
    places = network.constant(np.arange(count, dtype=np.float32).reshape(1, count, 1))
    is_here = logical_and(eq(unsqueeze(place, 1), places), unsqueeze(mask, 1))  # (B, count, N)
    # In two digits: a product of float32 may be computed in TF32, which is exact up to 2048.
    number = positions(mask)
    digits = stack([number // _DIGIT, number - number // _DIGIT * _DIGIT], -1).to(float32)
    high, low = unbind(matmul(is_here.to(float32), digits).to(int32), -1)
    at = high * _DIGIT + low
    return Rows(at, any_of(is_here, dim=-1))


def _class_by_class(boxes: Tensor, scores: Tensor, how: Suppression) -> Detections:
    """One class after the other, each with all boxes, in a loop over the classes."""
    classes = scores.shape[2]
    loop = scores.network.loop(_count(scores, classes))
    values = loop.slices(scores, 2)
    corners = loop.slices(boxes, 2) if boxes.ndim == 4 else boxes
    better = is_better(values)
    found = gt(values, below(how.score_threshold))
    kept = _suppressed(corners, found, values, positions(values), better, None, how)
    count = min(how.max_detections, how.max_per_class or how.max_detections)
    rows = _best(kept.mask, better, count)
    best = where(rows.is_one, pick(values, rows.at), -math.inf)
    per_class = (best, rows.at, pick(corners, rows.at))
    best, index, corners = (flatten(loop.stacked(x, 1, classes), 1, 2) for x in per_class)
    converged = loop.stacked(kept.converged.to(int32), 1, classes)

    best = with_places(best, how.max_detections)
    values, order = top_k(best, how.max_detections, 1, largest=True, stable=True)
    is_one = gt(values, -math.inf)
    order = where(is_one, order, 0)
    rows = Rows(order, is_one)
    return padded(rows, all_of(gt(converged, 0), dim=1), pick(corners, order), values,
                   order // count, pick(index, order))  # fmt: skip
