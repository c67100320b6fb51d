"""From scored boxes to a fixed number of detections: candidates, suppression, the best first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from trtnet.detection.keeping import keep
from trtnet.detection.nms_layer import too_many
from trtnet.detection.overlap import below, fraction
from trtnet.detection.suppression import check_form, is_better, positions
from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops.elementwise import eq, gt, logical_and, lt, where
from trtnet.ops.indexing import gather_elements
from trtnet.ops.joining import stack, unbind
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor
from trtnet.ops.reduction import all as all_of
from trtnet.ops.reduction import any as any_of
from trtnet.ops.reduction import sum as sum_of
from trtnet.ops.shape import expand, flatten, slice_, transpose, unsqueeze
from trtnet.ops.top_k import LIMIT, top_k
from trtnet.tensor import Tensor, same_size, same_sizes

_DIGIT = 1024
IMAGES = ("together", "one by one")
BYTES_OF_A_PAIR = 30
"""What suppression needs at most for each pair of boxes that it compares at once."""
LARGEST = 1 << 30
"""Bytes that the pairs of all images may need, if nothing else is asked for."""
USUAL_BATCH = 16
"""The number of images that is expected where it is known only at run time."""


class Detections(NamedTuple):
    """Detections of B images, K places each, the best first; places without one are zeros.

    Attributes:
        num_dets: (B, 1) int32: how many there are; -1 where an unrolled suppression has not
            converged.
        det_boxes: (B, K, 4) float32 corners.
        det_scores: (B, K) float32.
        det_classes: (B, K) int32.
        det_indices: (B, K) int32: which of the N boxes each was.
    """

    num_dets: Tensor
    det_boxes: Tensor
    det_scores: Tensor
    det_classes: Tensor
    det_indices: Tensor


@dataclass(frozen=True)
class Suppression:
    """How boxes are chosen.

    Attributes:
        iou_threshold: of 0..1: of two boxes that overlap by more, the worse is dropped.
        score_threshold: boxes with no higher score are dropped, and those whose score is NaN.
        max_detections: how many an image has at most.
        max_per_class: how many a class has at most; ``None`` for no such limit.
        candidates: how many (box, class) pairs of an image take part, those of the best scores; at
            most 3840. ``None`` for all of them, class by class.
        across_classes: whether boxes of different classes suppress each other.
        form, rounds: of the native form, see :func:`trtnet.detection.suppress`.
        images: ``"together"`` needs about 30 bytes for each pair of boxes of each image;
            ``"one by one"``, in a loop, needs them for one image. By default (``None``) images are
            taken together where that needs at most 1 GiB for all of them, or for 16 where their
            number is known only at run time.

    Raises:
        UsageError: a value that is impossible.
    """

    iou_threshold: float = 0.5
    score_threshold: float = 0.05
    max_detections: int = 100
    max_per_class: int | None = None
    candidates: int | None = 1000
    across_classes: bool = False
    form: str = "loop"
    rounds: int = 32
    images: str | None = None

    def __post_init__(self) -> None:
        for name in ("iou_threshold", "score_threshold"):
            fraction(name, getattr(self, name))
        for name in ("max_detections", "max_per_class", "candidates"):
            value = getattr(self, name)
            least = type(value) is int and 1 <= value <= LIMIT
            if not least and not (value is None and name != "max_detections"):
                raise UsageError(f"{name} is a number of boxes", expected=f"1..{LIMIT}",
                                 got=repr(value))  # fmt: skip
        check_form(self.form, self.rounds)
        if type(self.across_classes) is not bool:
            raise UsageError("across_classes is True or False", got=repr(self.across_classes))
        if self.images not in (None, *IMAGES):
            raise UsageError("images are taken", expected=" or ".join(IMAGES),
                             got=repr(self.images))  # fmt: skip
        if self.across_classes and self.candidates is None:
            raise UsageError("classes that suppress each other need a number of candidates",
                             fix=f"candidates=1000, or another number up to {LIMIT}")  # fmt: skip


def detections(boxes: Tensor, scores: Tensor, how: Suppression | None = None) -> Detections:
    """The detections among N boxes of B images.

    Of equal scores the lower class comes first, then the lower box. Where more than
    ``how.candidates`` pairs of a box and a class have the lowest score that still takes part, an
    engine may take any of them. Boxes with a NaN overlap nothing. All is computed in float32,
    whatever the policy. Who suppresses is the network's choice, see
    :func:`trtnet.detection.keeping.keep`.

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
    if how.candidates is None and scores.network.choose_nms() == "layer":
        how = replace(how, candidates=_all_pairs(scores))
    choose = _class_by_class if how.candidates is None else _together
    compared = scores.shape[1] if how.candidates is None else how.candidates
    return by_image(partial(choose, how=how), how, compared * compared, boxes, scores)


def by_image(
    choose: Callable[..., Detections], how: Suppression, pairs: Any, *of: Tensor
) -> Detections:
    """``choose(*of)``, for all images together or in a loop, as ``how.images`` says.

    Args:
        pairs: how many pairs of boxes are compared at once for an image, an int or a Dim.
        of: (B, …) each.
    """
    batch = of[0].shape[0]
    by_layer = of[0].network.choose_nms() == "layer"  # which no loop can hold
    if by_layer or same_size(batch, 1) or _are_together(how, batch, pairs):
        return choose(*of)
    loop = of[0].network.loop(_count(of[0], batch))
    found = choose(*(unsqueeze(loop.slices(x, 0), 0) for x in of))
    return Detections(*(loop.stacked(x.squeeze(0), 0, batch) for x in found))


def _are_together(how: Suppression, batch: Any, pairs: Any) -> bool:
    if how.images is not None:
        return how.images == "together"
    count = batch if isinstance(batch, int) else USUAL_BATCH
    return isinstance(pairs, int) and count * pairs * BYTES_OF_A_PAIR <= LARGEST


def _count(like: Tensor, size: Any) -> Tensor:
    """`size`, an int or a Dim, as an int32 scalar."""
    if isinstance(size, int):
        return like.network.constant(size, int32)
    return as_tensor(size, like, align=False).to(int32)


def _all_pairs(scores: Tensor) -> int:
    """The number of pairs of a box and a class, where TensorRT can choose as many."""
    count, classes = scores.shape[1:]
    total = count * classes
    if not isinstance(total, int) or total > LIMIT:
        raise too_many(f"candidates=None, which is {count} boxes of {classes} classes")
    return total


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
    order = where(gt(values, -math.inf), order, 0)
    label = order // count
    index = order - label * count
    at = index if boxes.ndim == 3 else index * classes + label
    corners = pick(flatten(boxes, 1, -2), at)
    chosen = Candidates(corners, values, label, index)
    return choose_among(chosen, how, classes, order)


class Candidates(NamedTuple):
    """N pairs of a box and a class of each of B images.

    Attributes:
        boxes: (B, N, 4) float32 corners.
        scores: (B, N) float32; -inf for a place without a candidate.
        labels: (B, N) int32: the class.
        indices: (B, N) int32: which of the detector's boxes it is.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    indices: Tensor


def choose_among(
    found: Candidates, how: Suppression, classes: Any, order: Tensor | None = None
) -> Detections:
    """The detections among candidates, all of which take part.

    Args:
        classes: how many there are.
        order: (B, N): of equal scores the lower is better; by default the positions.
    """
    alone = how.across_classes or same_size(classes, 1)
    better = is_better(found.scores, order)
    kept = keep(found.boxes, gt(found.scores, -math.inf), found.scores, how.iou_threshold,
                order=order, better=better, groups=None if alone else found.labels,
                group_count=classes, form=how.form, rounds=how.rounds)  # fmt: skip
    mask = _limited(kept.mask, better, found.labels, how.max_per_class)
    rows = _best(mask, better, how.max_detections)
    return padded(rows, kept.converged, *(pick(x, rows.at) for x in found))


def _limited(mask: Tensor, better: Tensor, labels: Tensor, limit: int | None) -> Tensor:
    """`mask` without what is worse than the first `limit` of its class."""
    if limit is None:
        return mask
    of_class = logical_and(better, eq(unsqueeze(labels, -1), unsqueeze(labels, -2)))
    return logical_and(mask, lt(_count_before(mask, of_class), float(limit)))


def _count_before(mask: Tensor, better: Tensor) -> Tensor:
    """(B, N) float32: how many boxes of `mask` are better than each. Exact below 2**24."""
    return matmul(unsqueeze(mask.to(float32), 1), better.to(float32)).squeeze(1)


class Rows(NamedTuple):
    """The best boxes of a mask.

    Attributes:
        at: (B, K) int32: their positions, 0 where there is none.
        is_one: (B, K) bool: whether there is one.
    """

    at: Tensor
    is_one: Tensor


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


def padded(
    rows: Rows, converged: Tensor | None, boxes: Tensor, scores: Tensor, classes: Tensor,
    indices: Tensor,
) -> Detections:  # fmt: skip
    """The detections, with zeros where `rows` has none.

    Args:
        converged: (B,) bool, of the suppression; ``None`` where there was none.
    """
    number = sum_of(rows.is_one.to(int32), dim=1, keepdim=True).to(int32)
    if converged is not None:
        number = where(unsqueeze(converged, 1), number, -1)
    is_one = rows.is_one
    return Detections(
        number,
        where(unsqueeze(is_one, -1), boxes, 0.0),
        where(is_one, scores, 0.0),
        where(is_one, classes.to(int32), 0),
        where(is_one, indices.to(int32), 0),
    )


def _class_by_class(boxes: Tensor, scores: Tensor, how: Suppression) -> Detections:
    """One class after the other, each with all boxes, in a loop over the classes."""
    classes = scores.shape[2]
    loop = scores.network.loop(_count(scores, classes))
    values = loop.slices(scores, 2)
    corners = loop.slices(boxes, 2) if boxes.ndim == 4 else boxes
    better = is_better(values)
    kept = keep(corners, gt(values, below(how.score_threshold)), values, how.iou_threshold,
                better=better, form=how.form, rounds=how.rounds)  # fmt: skip
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


def with_places(scores: Tensor, count: int) -> Tensor:
    """(…, N) `scores` with -inf added behind them where N may be less than `count`: no axis is
    shorter than its TopK."""
    *others, size = scores.shape
    if isinstance(size, int) and size >= count:
        return scores
    rank = scores.ndim
    return slice_(scores, [0] * rank, [*others, size + count], [1] * rank, mode="FILL",
                  fill=-math.inf)  # fmt: skip


def pick(x: Tensor, at: Tensor) -> Tensor:
    """The rows of `x`, (B, N) or (B, N, M), at the positions `at`, (B, K)."""
    if x.ndim == 3:
        at = expand(unsqueeze(at, -1), *at.shape, x.shape[-1])
    return gather_elements(x, 1, at)
