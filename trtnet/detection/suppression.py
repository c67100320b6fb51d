"""Exact greedy non-maximum suppression of ordinary layers, which every backend can build.

The greedy rule keeps a box unless a better one that is kept overlaps it: ``keep[i] = not any(
keep[j] and M[j, i])``, with ``M[j, i]`` where box j is better than box i and overlaps it. The rule
has one solution, and iterating it from "all are kept" reaches it: after t rounds the t best boxes
are decided, and on natural pictures all of them are after 5 to 12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trtnet.detection.overlap import box_iou, overlaps
from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops import windows
from trtnet.ops.elementwise import eq, gt, logical_and, logical_not, logical_or, lt, ne
from trtnet.ops.linalg import matmul
from trtnet.ops.reduction import all as all_of
from trtnet.ops.reduction import any as any_of
from trtnet.ops.shape import unsqueeze
from trtnet.tensor import Tensor, same_sizes

FORMS = ("loop", "unrolled")


class Kept(NamedTuple):
    """What suppression keeps of N boxes.

    Attributes:
        mask: (B, N) bool.
        converged: (B,) bool: whether the mask is final; always, for the form "loop".
    """

    mask: Tensor
    converged: Tensor


def is_better(scores: Tensor, order: Tensor | None = None) -> Tensor:
    """(B, N, N) bool, true at [b, j, i] where box j comes before box i: its score is higher, or the
    scores are equal and its `order` is lower.

    Args:
        scores: (B, N) float32.
        order: (B, N) int32 or int64, different for each box; by default the positions.
    """
    mine, other = unsqueeze(scores, -1), unsqueeze(scores, -2)
    if order is None:
        order = positions(scores)
    first = lt(unsqueeze(order, -1), unsqueeze(order, -2))
    return logical_or(gt(mine, other), logical_and(eq(mine, other), first))


def positions(scores: Tensor) -> Tensor:
    """(1, N) int32 for `scores` (B, N): 0, 1, …"""
    return unsqueeze(windows.positions(scores.network, scores.shape[-1]), 0).to(int32)


def check_form(form: str, rounds: int) -> None:
    """Checks how the native form of :func:`suppress` is asked for.

    Raises:
        UsageError: another form, or rounds that are no whole number from 1.
    """
    if form not in FORMS:
        raise UsageError("no such form of suppression", got=repr(form), expected=" or ".join(FORMS))
    if type(rounds) is not int or rounds < 1:
        raise UsageError("rounds of suppression", expected="a whole number from 1", got=rounds)


def suppress(
    boxes: Tensor,
    candidates: Tensor,
    better: Tensor,
    iou_threshold: float,
    *,
    groups: Tensor | None = None,
    form: str = "loop",
    rounds: int = 32,
) -> Kept:
    """Which boxes greedy suppression keeps.

    Args:
        boxes: (B, N, 4) corners.
        candidates: (B, N) bool: the boxes that take part.
        better: (B, N, N) of :func:`is_better`.
        iou_threshold: of 0..1; a better box that overlaps by more suppresses.
        groups: (B, N) integers: only boxes of one group suppress each other, such as a class.
        form: ``"loop"`` runs rounds until nothing changes; ``"unrolled"`` adds `rounds` rounds,
            which a CUDA graph can hold, and tells whether they were enough.

    Raises:
        UsageError: a threshold outside of 0..1, another form, or fewer than one round.
        ShapeError: sizes that do not fit together.
    """
    check_form(form, rounds)
    if not same_sizes(boxes.shape[:-1], candidates.shape) or candidates.ndim != 2:
        raise ShapeError("boxes and candidates do not fit together",
                         expected="(B, N, 4) and (B, N)",
                         got=f"{boxes.shape} and {candidates.shape}")  # fmt: skip
    hits = logical_and(better, overlaps(box_iou(boxes, boxes), iou_threshold))
    if groups is not None:
        hits = logical_and(hits, eq(unsqueeze(groups, -1), unsqueeze(groups, -2)))
    suppresses = hits.to(float32)
    all_kept = unsqueeze(candidates, 1)

    def step(kept: Tensor) -> Tensor:
        hit = matmul(kept.to(float32), suppresses) > 0.5
        return logical_and(all_kept, logical_not(hit))

    if form == "loop":
        return _until_stable(all_kept, step)
    kept = before = all_kept
    for _ in range(rounds + 1):  # the last one only finds out whether something changes
        before, kept = kept, step(kept)
    same = logical_not(logical_or(logical_and(before, logical_not(kept)),
                                  logical_and(kept, logical_not(before))))  # fmt: skip
    return Kept(before.squeeze(1), all_of(same.squeeze(1), dim=-1))


def _until_stable(first: Tensor, step: Callable[[Tensor], Tensor]) -> Kept:
    """The fixed point of `step` on (B, 1, N) masks, in a loop that ends when nothing changes."""
    network = first.network
    loop = network.loop()
    kept = loop.state(first.to(int32))
    goes_on = loop.state(network.constant(np.array(True)))
    before = ne(kept, 0)
    after = step(before)
    loop.advance(kept, after.to(int32))
    loop.advance(goes_on, any_of(ne(after.to(int32), kept)))
    loop.run_while(goes_on)
    mask = ne(loop.last(kept), 0).squeeze(1)
    return Kept(mask, any_of(logical_or(mask, logical_not(mask)), dim=-1))
