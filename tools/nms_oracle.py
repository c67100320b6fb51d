"""Detections as a plain program makes them, class by class with ``torchvision.ops.nms``, and sets
of boxes that are made to hurt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torchvision

from trtnet.detection import Suppression


def wanted(boxes: np.ndarray, scores: np.ndarray, how: Suppression) -> list[tuple[int, ...]]:
    """(class, box) of each detection of one image, the best first.

    Args:
        boxes: (N, 4) or (N, C, 4).
        scores: (N, C).
    """
    pairs: list[tuple[float, int, int]] = [
        (float(-scores[n, c]), int(c), int(n))
        for n, c in zip(*np.nonzero(scores > how.score_threshold), strict=True)
    ]
    pairs = sorted(pairs)[: how.candidates]
    kept: list[tuple[float, int, int]] = []
    labels = {0} if how.across_classes else {c for _, c, _ in pairs}
    for label in labels:
        own = [pair for pair in pairs if how.across_classes or pair[1] == label]
        corners = [boxes[n] if boxes.ndim == 2 else boxes[n, c] for _, c, n in own]
        # Falling scores, so that the order of equal ones is that of the pairs.
        found = torchvision.ops.nms(
            torch.from_numpy(np.array(corners, np.float32).reshape(-1, 4)),
            -torch.arange(len(own), dtype=torch.float32),
            how.iou_threshold,
        )
        kept += [own[i] for i in found.tolist()]
    counted: dict[int, int] = {}
    result: list[tuple[int, ...]] = []
    for _, c, n in sorted(kept):
        counted[c] = counted.get(c, 0) + 1
        if how.max_per_class is None or counted[c] <= how.max_per_class:
            result.append((c, n))
    return result[: how.max_detections]


Make = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


def clustered(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around few objects, as a detector's head gives them."""
    objects = max(1, count // 20)
    which = rng.integers(0, objects, count)
    centers = rng.uniform(0, 640, (objects, 2))[which] + rng.normal(0, 12, (count, 2))
    sizes = rng.uniform(20, 120, (objects, 2))[which] * rng.uniform(0.8, 1.2, (count, 2))
    return _corners(centers, sizes), rng.uniform(0, 1, (count, classes)).astype(np.float32)


def ties(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Few different scores, and boxes on a coarse grid: equal boxes, IoU at the threshold."""
    centers, sizes = rng.integers(0, 8, (count, 2)) * 4.0, rng.integers(1, 4, (count, 2)) * 4.0
    scores = rng.choice(np.linspace(0, 1, 6), (count, classes))
    return _corners(centers, sizes), scores.astype(np.float32)


def chain(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Each box overlaps its neighbours alone, and is worse than the one before: as many rounds as
    boxes."""
    centers = np.stack([np.arange(count) * 4.0, np.zeros(count)], -1)
    scores = np.linspace(0.99, 0.3, count)[:, None].repeat(classes, 1).astype(np.float32)
    return _corners(centers, np.full((count, 2), 16.0)), scores


def broken(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Among others: no area, exchanged corners, very large boxes, NaN scores, infinite scores."""
    boxes, scores = ties(rng, count, classes)
    boxes[rng.random(count) < 0.1, 2:] = boxes[0, :2]
    boxes[rng.random(count) < 0.1] *= 1e6
    scores[rng.random((count, classes)) < 0.1] = np.nan
    scores[rng.random((count, classes)) < 0.02] = np.inf
    return boxes, scores


def empty(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """No score above 0.01."""
    boxes, scores = clustered(rng, count, classes)
    return boxes, scores * np.float32(0.01)


KINDS: dict[str, Make] = {
    "clustered": clustered, "ties": ties, "chain": chain, "broken": broken, "empty": empty
}  # fmt: skip


def _corners(centers: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], -1).astype(np.float32)
