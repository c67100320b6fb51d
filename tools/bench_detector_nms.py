"""Ways from predictions to the detections of each image with PyTorch: torchvision's suppression,
whose sizes the data decide on, and one of fixed size that a CUDA graph takes.

A row is (x1, y1, x2, y2, score, class, image, group), float32; a group is a class of one image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from bench_detector_networks import Predictions, Rules
from torchvision.ops import batched_nms

SCORE, CLASS, IMAGE, GROUP, COLUMNS = 4, 5, 6, 7, 8
ROUNDS = 12  # of the rule of suppression: pictures need 5 to 12


class Candidates(NamedTuple):
    """Rows of all places, (B, N, 8), and (B, N) bool: whether their scores pass the threshold."""

    rows: torch.Tensor
    passed: torch.Tensor


class Fixed(NamedTuple):
    """Detections in places of fixed number.

    Attributes:
        counts: (B,) int64, how many places hold one.
        rows: (B, D, 8), the best first.
        is_final: bool, whether more rounds would change nothing.
    """

    counts: torch.Tensor
    rows: torch.Tensor
    is_final: torch.Tensor


def candidates(found: Predictions, rules: Rules) -> Candidates:
    """Predictions as rows."""
    images = torch.arange(len(found.scores), device=found.scores.device)[:, None]
    image = images.expand_as(found.classes)
    columns = [found.scores, found.classes, image, image * rules.classes + found.classes]
    rows = torch.cat([found.boxes, *(column.float()[..., None] for column in columns)], 2)
    return Candidates(rows, found.scores > rules.score_thresh)


def of_each_image(given: Candidates, rules: Rules) -> list[torch.Tensor]:
    """The detections of each image, (n, 8), the best first: ``batched_nms`` image by image."""
    found = []
    for rows, passed in zip(*given, strict=True):
        chosen = _suppressed(_best(rows[passed], rules.topk_candidates), CLASS, rules)
        found.append(chosen[: rules.detections_per_img])
    return found


def of_all_images(given: Candidates, rules: Rules) -> list[torch.Tensor]:
    """As :func:`of_each_image`, by one ``batched_nms``."""
    rows, count = given.rows[given.passed], rules.topk_candidates
    if len(rows) > count:  # perhaps those of one image
        parts = rows.split(given.passed.sum(1).tolist())
        rows = torch.cat([_best(part, count) for part in parts])
    rows = _suppressed(rows, GROUP, rules)
    image = rows[:, IMAGE].long()
    counts = image.bincount(minlength=len(given.rows)).tolist()
    parts = rows[image.argsort(stable=True)].split(counts)
    return [part[: rules.detections_per_img] for part in parts]


def _best(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows if len(rows) <= count else rows[rows[:, SCORE].topk(count).indices]


def _suppressed(rows: torch.Tensor, group: int, rules: Rules) -> torch.Tensor:
    return rows[batched_nms(rows[:, :4], rows[:, SCORE], rows[:, group], rules.nms_thresh)]


def in_fixed_places(given: Candidates, rules: Rules, count: int) -> Fixed:
    """The detections among the `count` best candidates of each image. A box is kept unless a better
    one that is kept overlaps it: that rule is applied :data:`ROUNDS` times, after which as many of
    the best boxes at least are decided, and all where no chain of overlaps is longer."""
    scores = given.rows[..., SCORE].where(given.passed, -1.0)
    best, order = scores.topk(min(count, scores.shape[1]))
    rows = given.rows.gather(1, order[..., None].expand(-1, -1, COLUMNS))
    is_candidate = best > rules.score_thresh
    suppresses = _overlaps(rows, rules.nms_thresh).triu(1)  # [b, j, i]: j comes before i
    kept = before = is_candidate
    for _ in range(ROUNDS):
        before = kept
        kept = is_candidate & ~(suppresses & kept[:, :, None]).any(1)
    places = rules.detections_per_img
    place = kept.cumsum(1) - 1
    place = torch.where(kept & (place < places), place, places)
    found = rows.new_zeros(len(rows), places + 1, COLUMNS)
    found = found.scatter(1, place[..., None].expand_as(rows), rows)
    return Fixed(kept.sum(1).clamp(max=places), found[:, :places], (kept == before).all())


def _overlaps(rows: torch.Tensor, threshold: float) -> torch.Tensor:
    """(B, K, K) bool: whether two boxes of a class overlap by more than the threshold."""
    low, high = rows[:, :, None, :2], rows[:, :, None, 2:4]
    area = (high - low).prod(-1)
    shared = torch.minimum(high, high.transpose(1, 2)) - torch.maximum(low, low.transpose(1, 2))
    inside = shared.clamp(min=0).prod(-1)
    iou = inside / (area + area.transpose(1, 2) - inside)
    kinds = rows[..., CLASS]
    return (iou > threshold) & (kinds[:, :, None] == kinds[:, None])


def in_lists(fixed: Fixed) -> list[torch.Tensor]:
    """The rows of each image.

    Raises:
        ValueError: the rounds were too few.
    """
    if not fixed.is_final:
        raise ValueError(f"{ROUNDS} rounds of suppression were too few")
    return [rows[:count] for rows, count in zip(fixed.rows, fixed.counts.tolist(), strict=True)]
