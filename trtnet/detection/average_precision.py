"""Average precision of boxes as COCO defines it: NumPy, outside of networks.

Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312. The figures are those of ``COCOeval``
of pycocotools for boxes of all sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trtnet.detection.matching import Boxes

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The overlaps from which a box counts as found; the mean over them is the mAP of COCO."""

MOST = 100
"""Of each image and class the best so many boxes count."""

_RECALLS = np.linspace(0.0, 1.0, 101)


class Truth(NamedTuple):
    """The objects of one image.

    Attributes:
        corners: (n, 4) float64, x1, y1, x2, y2 in pixels of the network's input.
        classes: (n,) int64, as the network numbers them.
        crowd: (n,) bool: whether it is a crowd, in which boxes are neither right nor wrong.
    """

    corners: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray


class _Judged(NamedTuple):
    """The boxes of one class in one image, the best first.

    Attributes:
        scores: (n,).
        right: (10, n) bool: at each of :data:`THRESHOLDS`.
        ignored: (10, n) bool: those that are in a crowd.
        objects: how many there are to be found.
    """

    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    objects: int


def average_precision(found: Sequence[Boxes], truth: Sequence[Truth]) -> float | None:
    """The mean average precision, 0 to 1: over the classes that have objects, and over overlaps of
    0.5, 0.55 … 0.95.

    Args:
        found: the boxes of each image.
        truth: the objects of each image.

    Returns:
        ``None`` where there are no objects that are no crowds.
    """
    parts = [image.classes[~image.crowd] for image in truth]
    numbers = np.unique(np.concatenate(parts)) if parts else ()
    of_classes = [
        _class_precision([_judged(a, b, number) for a, b in zip(found, truth, strict=True)])
        for number in numbers
    ]
    return float(np.mean(of_classes)) if of_classes else None


def _judged(found: Boxes, truth: Truth, number: int) -> _Judged:
    mine, real = found.classes == number, truth.classes == number
    scores = found.scores[mine]
    order = np.argsort(-scores, kind="stable")[:MOST]
    crowd = truth.crowd[real]
    first = np.argsort(crowd, kind="stable")  # objects before crowds
    crowd = crowd[first]
    overlap = _overlap(found.corners[mine][order], truth.corners[real][first], crowd)
    right = np.zeros((len(THRESHOLDS), len(order)), bool)
    ignored = np.zeros_like(right)
    for level, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(crowd), bool)
        for box in range(len(order)):
            at = _partner(overlap[box], taken, crowd, min(threshold, 1 - 1e-10))
            if at is not None:
                taken[at] = True
                right[level, box], ignored[level, box] = not crowd[at], crowd[at]
    return _Judged(scores[order], right, ignored, int((~crowd).sum()))


def _overlap(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(n, m): intersection over union; over the box alone, for a crowd."""
    a, b = boxes[:, None], objects[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(-1)
    own, other = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    whole = np.where(crowd, own, own + other - shared)
    found: np.ndarray = np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
    return found


def _partner(overlap: np.ndarray, taken: np.ndarray, crowd: np.ndarray, least: float) -> int | None:
    """The object that a box finds: of those that are left, the one that it overlaps most, the last
    of equal ones; a crowd only where there is none."""
    for free in (~taken & ~crowd, crowd):
        fits = free & (overlap >= least)
        if fits.any():
            best = np.where(fits, overlap, -1.0)
            return int(len(best) - 1 - best[::-1].argmax())
    return None


def _class_precision(images: Sequence[_Judged]) -> float:
    """The mean precision over recalls of 0, 0.01 … 1 and over :data:`THRESHOLDS`."""
    objects = sum(image.objects for image in images)
    order = np.argsort(-np.concatenate([image.scores for image in images]), kind="stable")
    right, ignored = (
        np.concatenate([part[name] for part in images], axis=1)[:, order] for name in (1, 2)
    )
    precisions = np.zeros((len(THRESHOLDS), len(_RECALLS)))
    hits, misses = right.cumsum(1), (~right & ~ignored).cumsum(1)
    for level in range(len(THRESHOLDS)):
        total = hits[level] + misses[level]
        precision = hits[level] / (total + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
        at = np.searchsorted(hits[level] / objects, _RECALLS, side="left")
        precisions[level, at < len(best)] = best[at[at < len(best)]]
    return float(precisions.mean())
