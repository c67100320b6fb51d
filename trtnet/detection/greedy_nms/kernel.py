"""The kernels of greedy_nms, in Triton: which boxes overlap, as bits, and a scan over them.

Boxes are brought into the order of their scores. A word of 64 bits then says which of 64 worse
boxes a box suppresses. One program for each image goes through the boxes, 64 at a time: those
among them that are kept suppress all that follow at once. Nothing is read back to the host, so all
of it can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_WORD = 64
_TILE = 4096  # words of a tile in registers


def greedy_nms(
    boxes: Tensor,
    candidates: Tensor,
    scores: Tensor,
    order: Tensor,
    groups: Tensor | None,
    threshold: float,
    rounds: int | None = None,
) -> tuple[Tensor, ...]:
    """What greedy suppression keeps, on a CUDA device.

    Overlaps are computed by the operations of :func:`trtnet.detection.box_iou`, each rounded.

    Args:
        boxes: (B, N, 4) float32 corners.
        candidates: (B, N) bool: the boxes that take part.
        scores: (B, N) float32; a NaN is neither better nor worse than anything.
        order: (B, N) int32 or int64: of equal scores the lower is better.
        groups: (B, N) int32 or int64: only boxes of one group suppress each other.
        threshold: a float32 number; a better box whose IoU is larger suppresses.
        rounds: of the iteration of :func:`trtnet.detection.suppress`; None for its end.

    Returns:
        (B, N) bool: what is kept; with `rounds` a second one, after one more round.
    """
    images, count = candidates.shape
    # Not empty_like: `candidates` may lie in another order, and the kernels write row by row.
    masks = tuple(
        torch.empty(candidates.shape, dtype=torch.bool, device=boxes.device)
        for _ in range(2 if rounds else 1)
    )
    if not candidates.numel():
        return masks
    words = triton.cdiv(count, _WORD)
    places = torch.empty((images, count), dtype=torch.int32, device=boxes.device)
    hits = torch.empty((images, words * _WORD, words), dtype=torch.int64, device=boxes.device)
    taking_part = candidates.contiguous().view(torch.uint8)
    scores, order, boxes = scores.contiguous(), order.contiguous(), boxes.contiguous()
    labels = order if groups is None else groups.contiguous()
    _sort[(words, images)](taking_part, scores, order, places, count, word=_WORD)
    _overlaps[(words, words, images)](
        boxes, taking_part, scores, order, labels, places, hits, count, words, threshold,
        is_grouped=groups is not None, word=_WORD, enable_fp_fusion=False,
    )  # fmt: skip
    width = triton.next_power_of_2(words)
    shape = {"width": width, "rows": max(1, min(_WORD, _TILE // width)), "word": _WORD}
    kept = [mask.view(torch.uint8) for mask in masks]
    if rounds is None:
        _scan[(images,)](taking_part, places, hits, kept[0], count, words, **shape)
    else:
        _iterate[(images,)](taking_part, places, hits, *kept, count, words, rounds, **shape)
    return masks


@triton.jit
def _sort(candidates, scores, order, places, count, word: tl.constexpr):
    """One program finds the places of `word` boxes: candidates first, the best first, NaN last."""
    first = tl.program_id(1).to(tl.int64) * count
    mine = tl.program_id(0) * word + tl.arange(0, word)
    fits = mine < count
    part = tl.load(candidates + first + mine, fits, 0)[:, None]
    score = tl.load(scores + first + mine, fits, 0.0)[:, None]
    rank = tl.load(order + first + mine, fits, 0)[:, None]
    before = tl.zeros((word,), tl.int32)
    for start in range(0, count, word):
        other = start + tl.arange(0, word)
        exists = other < count
        its_part = tl.load(candidates + first + other, exists, 0)[None, :]
        its_score = tl.load(scores + first + other, exists, 0.0)[None, :]
        its_rank = tl.load(order + first + other, exists, 0)[None, :]
        number, its_number = score == score, its_score == its_score
        lower = (its_rank < rank) | ((its_rank == rank) & (other[None, :] < mine[:, None]))
        equal = (its_score == score) | ~(number | its_number)
        higher = (its_score > score) | (its_number & ~number) | (equal & lower)
        first_is_it = (its_part > part) | ((its_part == part) & higher)
        before += tl.sum((first_is_it & exists[None, :]).to(tl.int32), 1)
    tl.store(places + first + before, mine, fits)


@triton.jit
def _overlaps(
    boxes, candidates, scores, order, groups, places, hits, count, words, threshold,
    is_grouped: tl.constexpr, word: tl.constexpr,
):  # fmt: skip
    """One program writes one word of `word` boxes: the worse boxes that each of them suppresses.

    Nothing is written for words of boxes that take no part, which stand behind all others.
    """
    image = tl.program_id(2).to(tl.int64)
    first = image * count
    worst = tl.load(places + first + tl.program_id(1) * word)
    is_used = tl.load(candidates + first + worst) != 0
    if (tl.program_id(1) >= tl.program_id(0)) & is_used:
        bit = tl.arange(0, word)
        row, column = tl.program_id(0) * word + bit, tl.program_id(1) * word + bit
        a = first + tl.load(places + first + row, row < count, 0)
        b = first + tl.load(places + first + column, column < count, 0)
        a1, b1 = tl.load(boxes + a * 4)[:, None], tl.load(boxes + a * 4 + 1)[:, None]
        a2, b2 = tl.load(boxes + a * 4 + 2)[:, None], tl.load(boxes + a * 4 + 3)[:, None]
        c1, d1 = tl.load(boxes + b * 4)[None, :], tl.load(boxes + b * 4 + 1)[None, :]
        c2, d2 = tl.load(boxes + b * 4 + 2)[None, :], tl.load(boxes + b * 4 + 3)[None, :]
        width = tl.maximum(tl.minimum(a2, c2) - tl.maximum(a1, c1), 0.0)
        height = tl.maximum(tl.minimum(b2, d2) - tl.maximum(b1, d1), 0.0)
        shared = width * height
        areas = (a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1)
        hit = tl.div_rn(shared, areas - shared) > threshold
        score, its_score = tl.load(scores + a)[:, None], tl.load(scores + b)[None, :]
        lower = tl.load(order + a)[:, None] < tl.load(order + b)[None, :]
        hit = hit & ((score > its_score) | ((score == its_score) & lower))
        if is_grouped:
            hit = hit & (tl.load(groups + a)[:, None] == tl.load(groups + b)[None, :])
        hit = hit & (row < count)[:, None] & (column < count)[None, :]
        bits = tl.sum(hit.to(tl.int64) << bit.to(tl.int64)[None, :], 1)
        line = (image * words * word + row) * words
        tl.store(hits + line + tl.program_id(1), bits)


@triton.jit
def _either(a, b):
    return a | b


@triton.jit
def _word_of(candidates, places, first, k, count, word: tl.constexpr):
    """The candidates among `word` boxes, as bits."""
    bit = tl.arange(0, word)
    place = k * word + bit
    box = tl.load(places + first + place, place < count, 0)
    part = tl.load(candidates + first + box, place < count, 0)
    return tl.sum((part != 0).to(tl.int64) << bit.to(tl.int64), 0)


@triton.jit
def _suppressed(
    hits, line, kept, k, words, width: tl.constexpr, rows: tl.constexpr, word: tl.constexpr
):
    """Which boxes those of `kept`, bits of word `k`, suppress: `width` words."""
    column = tl.arange(0, width)
    found = tl.zeros((width,), tl.int64)
    for start in tl.static_range(0, word, rows):
        row = start + tl.arange(0, rows)
        is_kept = ((kept >> row.to(tl.int64)) & 1) != 0
        reads = is_kept[:, None] & ((column >= k) & (column < words))[None, :]
        at = (line + k * word + row)[:, None] * words + column[None, :]
        found |= tl.reduce(tl.load(hits + at, reads, 0), 0, _either)
    return found


@triton.jit
def _store(masks, places, first, kept, k, count, word: tl.constexpr):
    """Writes the bits of `kept`, those of word `k`, to the boxes that they are of."""
    bit = tl.arange(0, word)
    place = k * word + bit
    box = tl.load(places + first + place, place < count, 0)
    value = ((kept >> bit.to(tl.int64)) & 1).to(tl.uint8)
    tl.store(masks + first + box, value, place < count)


@triton.jit
def _used(candidates, mask, places, first, count, width: tl.constexpr, word: tl.constexpr):
    """How many words have candidates, which stand before all others; the others are not kept."""
    total = tl.zeros((width,), tl.int32)
    for start in range(0, count, width):
        box = start + tl.arange(0, width)
        total += (tl.load(candidates + first + box, box < count, 0) != 0).to(tl.int32)
    used = (tl.sum(total, 0) + word - 1) // word
    for start in range(0, count, width):
        place = start + tl.arange(0, width)
        is_behind = (place >= used * word) & (place < count)
        box = tl.load(places + first + place, is_behind, 0)
        tl.store(mask + first + box, tl.zeros((width,), tl.uint8), is_behind)
    return used


@triton.jit
def _scan(
    candidates, places, hits, mask, count, words,
    width: tl.constexpr, rows: tl.constexpr, word: tl.constexpr,
):  # fmt: skip
    """One program goes through the boxes of one image, the best first, `word` of them at a time."""
    image = tl.program_id(0).to(tl.int64)
    first, line = image * count, image * words * word
    column, bit = tl.arange(0, width), tl.arange(0, word)
    gone = tl.zeros((width,), tl.int64)
    used = _used(candidates, mask, places, first, count, 1024, word)
    for k in range(used):
        own = tl.load(hits + (line + k * word + bit) * words + k)
        here = tl.sum(tl.where(column == k, gone, 0), 0)
        left = _word_of(candidates, places, first, k, count, word) & ~here
        kept, goes_on = left, left != 0
        while goes_on:  # as many rounds as change anything; the best box is decided at once
            is_kept = ((kept >> bit.to(tl.int64)) & 1) != 0
            after = left & ~tl.reduce(tl.where(is_kept, own, 0), 0, _either)
            goes_on = after != kept
            kept = after
        gone |= _suppressed(hits, line, kept, k, words, width, rows, word)
        _store(mask, places, first, kept, k, count, word)


@triton.jit
def _gone(hits, line, kept, words, width: tl.constexpr, rows: tl.constexpr, word: tl.constexpr):
    """Which boxes those of `kept`, bits of `width` words, suppress."""
    column = tl.arange(0, width)
    gone = tl.zeros((width,), tl.int64)
    for k in range(words):
        mine = tl.sum(tl.where(column == k, kept, 0), 0)
        if mine != 0:
            gone |= _suppressed(hits, line, mine, k, words, width, rows, word)
    return gone


@triton.jit
def _iterate(
    candidates, places, hits, before_mask, after_mask, count, words, rounds,
    width: tl.constexpr, rows: tl.constexpr, word: tl.constexpr,
):  # fmt: skip
    """One program does the rounds of one image, all of its boxes at once."""
    image = tl.program_id(0).to(tl.int64)
    first, line = image * count, image * words * word
    column = tl.arange(0, width)
    all_kept = tl.zeros((width,), tl.int64)
    for k in range(words):
        mine = _word_of(candidates, places, first, k, count, word)
        all_kept = tl.where(column == k, mine, all_kept)
    # One value is carried by the loop: of two that begin as one, Triton carries the second alone.
    current, done, goes_on = all_kept, 0, rounds > 0
    while goes_on:
        gone = _gone(hits, line, current, words, width, rows, word)
        changed = tl.sum(((all_kept & ~gone) != current).to(tl.int32), 0) != 0
        current = all_kept & ~gone
        done += 1
        goes_on = changed & (done < rounds)
    after = all_kept & ~_gone(hits, line, current, words, width, rows, word)
    for k in range(words):
        _store(before_mask, places, first, tl.sum(tl.where(column == k, current, 0), 0), k, count,
               word)  # fmt: skip
        _store(after_mask, places, first, tl.sum(tl.where(column == k, after, 0), 0), k, count,
               word)  # fmt: skip
