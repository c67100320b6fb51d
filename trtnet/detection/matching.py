"""Boxes that two detectors, or a detector and the truth, have in common: NumPy, outside of
networks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trtnet.detection.formats import ROWS

NAMES = ("num_dets", "det_boxes", "det_scores", "det_classes")
"""The outputs of the format ``"efficientnms"``."""

LEAST_IOU = 0.9
"""Two boxes are the same where they overlap by at least this and have one class."""

_SAME_CORNER = 0.01  # pixels: of boxes without area, which have no overlap


class Boxes(NamedTuple):
    """The boxes of one image.

    Attributes:
        corners: (n, 4) float64, x1, y1, x2, y2 in pixels of the network's input.
        scores: (n,) float64.
        classes: (n,) int64.
    """

    corners: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def is_detection(names: Collection[str]) -> bool:
    """Whether outputs of these names are those of a detector that chooses boxes."""
    return ROWS in names or all(name in names for name in NAMES)


def boxes_in(outputs: Mapping[str, np.ndarray]) -> list[Boxes]:
    """The boxes of each image in the outputs of a detector, without the padding. An image whose
    suppression has not converged has none.

    Args:
        outputs: of :func:`trtnet.detection.output_tensors`, perhaps with others.
    """
    if ROWS in outputs:
        rows = np.asarray(outputs[ROWS], np.float64)
        are_there = [np.nan_to_num(image[:, 5], nan=-1) >= 0 for image in rows]
        return [
            Boxes(image[there, :4], image[there, 4], image[there, 5].astype(np.int64))
            for image, there in zip(rows, are_there, strict=True)
        ]
    counts, *arrays = (np.asarray(outputs[name]) for name in NAMES)
    kept = counts.ravel().astype(np.int64).clip(min=0)
    return [
        Boxes(corners[:n].astype(np.float64), scores[:n].astype(np.float64),
              classes[:n].astype(np.int64))
        for n, corners, scores, classes in zip(kept, *arrays, strict=True)
    ]  # fmt: skip


def overlaps_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of corners (n, 4) and (m, 4), in float64. Boxes without area
    overlap fully where their corners are equal to a hundredth of a pixel, and else not at all."""
    a, b = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(-1)
    union = _areas(a) + _areas(b) - shared
    equal = (np.abs(a - b) <= _SAME_CORNER).all(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(union > 0, shared / union, equal)
    return found


def _areas(corners: np.ndarray) -> np.ndarray:
    found: np.ndarray = (corners[..., 2:] - corners[..., :2]).clip(min=0).prod(-1)
    return found


def pairs_of(first: Boxes, second: Boxes, least_iou: float = LEAST_IOU) -> list[tuple[int, int]]:
    """As many pairs as there can be of a box of `first` and one of `second`, each box in one pair
    at most: of one class, overlapping by at least `least_iou`."""
    iou = overlaps_of(first.corners, second.corners)
    fits = (iou >= least_iou) & (first.classes[:, None] == second.classes[None])
    choices = [[int(j) for j in np.argsort(-row, kind="stable") if ok[j]]
               for row, ok in zip(iou, fits, strict=True)]  # fmt: skip
    partner: dict[int, int] = {}  # of boxes of `second`
    for i in range(len(choices)):
        _pair(i, choices, partner, set())
    return sorted((i, j) for j, i in partner.items())


def _pair(
    i: int, choices: Sequence[Sequence[int]], partner: dict[int, int], seen: set[int]
) -> bool:
    """Finds a partner for `i`, for which others may take another of their choices."""
    free = next((j for j in choices[i] if j not in partner), None)
    if free is not None:
        partner[free] = i
        return True
    for j in choices[i]:
        if j not in seen:
            seen.add(j)
            if _pair(partner[j], choices, partner, seen):
                partner[j] = i
                return True
    return False


def aligned(ours: Boxes, theirs: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Corners and scores of both, (n, 5) each, box by box: in the order of `theirs`, then the boxes
    of `ours` that have no partner. Zeros stand for the partner that a box does not have."""
    pairs = pairs_of(ours, theirs)
    mine, other = (np.column_stack([part.corners, part.scores]) for part in (ours, theirs))
    first = np.zeros_like(other)
    for i, j in pairs:
        first[j] = mine[i]
    alone = np.delete(mine, [i for i, _ in pairs], 0)
    return np.concatenate([first, alone]), np.concatenate([other, np.zeros_like(alone)])


@dataclass(frozen=True)
class Match:
    """How far the boxes of a network are those of another one.

    Attributes:
        found, wanted: numbers of boxes of the network and of the other one, over all images.
        matched: how many of them are the same: :func:`pairs_of`.
        iou: the least overlap of two boxes that are the same; ``None`` where there are none.
        score: the largest difference of their scores; ``None`` likewise.
    """

    found: int
    wanted: int
    matched: int
    iou: float | None
    score: float | None

    @property
    def share(self) -> float:
        """The share of boxes, 0 to 1, that are matched: of those of the other network, or of the
        network where it has more; 1 where neither has any."""
        most = max(self.found, self.wanted)
        return self.matched / most if most else 1.0

    def __str__(self) -> str:
        most = max(self.found, self.wanted)
        text = f"{self.matched} of {most} boxes matched" if most else "no boxes in these images"
        if self.iou is None or self.score is None:
            return text
        return f"{text}, worst IoU {self.iou:.4f}, worst score difference {self.score:.2g}"


def match_of(found: Iterable[Boxes], wanted: Iterable[Boxes]) -> Match:
    """The :class:`Match` of boxes of the same images."""
    numbers = np.zeros(3, np.int64)
    ious: list[float] = []
    differences: list[float] = []
    for ours, theirs in zip(found, wanted, strict=True):
        pairs = pairs_of(ours, theirs)
        numbers += (len(ours.scores), len(theirs.scores), len(pairs))
        for i, j in pairs:
            ious.append(float(overlaps_of(ours.corners[[i]], theirs.corners[[j]])[0, 0]))
            differences.append(float(abs(ours.scores[i] - theirs.scores[j])))
    ours_count, theirs_count, matched = map(int, numbers)
    return Match(ours_count, theirs_count, matched, min(ious, default=None),
                 max(differences, default=None))  # fmt: skip
