"""How many boxes of a mask are better than each, by a kernel: no matrix of all pairs."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_MINE, _OTHERS = 64, 128  # boxes that a program compares at once


def count_better(mask: Tensor, scores: Tensor, order: Tensor) -> Tensor:
    """(B, N) float32, exact below 2**24; a NaN is neither better nor worse than anything.

    Args:
        mask: (B, N) bool: the boxes that are counted.
        scores: (B, N) float32; the higher is better.
        order: (B, N) int32 or int64; of equal scores the lower is better.
    """
    images, count = mask.shape
    counts = torch.empty(mask.shape, dtype=torch.float32, device=mask.device)
    if mask.numel():
        counted = mask.contiguous().view(torch.uint8)
        grid = (triton.cdiv(count, _MINE), images)
        _count[grid](counted, scores.contiguous(), order.contiguous(), counts, count, _MINE,
                     _OTHERS)  # fmt: skip
    return counts


@triton.jit
def _count(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    mask, scores, order, counts, count, mine: tl.constexpr, others: tl.constexpr
):
    """One program counts for `mine` boxes of one image."""
    first = tl.program_id(1).to(tl.int64) * count
    box = tl.program_id(0) * mine + tl.arange(0, mine)
    score = tl.load(scores + first + box, box < count, 0.0)[:, None]
    rank = tl.load(order + first + box, box < count, 0)[:, None]
    found = tl.zeros((mine,), tl.int32)
    for start in range(0, count, others):
        other = start + tl.arange(0, others)
        part = tl.load(mask + first + other, other < count, 0)[None, :]
        its_score = tl.load(scores + first + other, other < count, 0.0)[None, :]
        its_rank = tl.load(order + first + other, other < count, 0)[None, :]
        better = (its_score > score) | ((its_score == score) & (its_rank < rank))
        found += tl.sum((better & (part != 0)).to(tl.int32), 1)
    tl.store(counts + first + box, found.to(tl.float32), box < count)
