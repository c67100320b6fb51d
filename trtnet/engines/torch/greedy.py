"""Greedy non-maximum suppression by one operation, in place of the layers that define it.

On a CPU only the pairs of boxes of one group are looked at, and then only those that overlap; on
CUDA kernels on bit masks do all of it, and nothing is read back to the host. The results are those
of the layers, bit for bit: the same operations of float32, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall

_PAIRS = 1 << 18  # looked at together


def suppression(layer: LayerContext) -> TorchCall:
    """What layers of the type SUPPRESSION compute: the boxes that no better box kept overlaps."""
    options = {"threshold": layer["threshold"], "rounds": layer["rounds"]}
    return TorchCall(suppress, layer.inputs, options)


def counting(layer: LayerContext) -> TorchCall:
    """What layers of the type COUNTED compute: how many boxes of a mask are better than each."""
    return TorchCall(count_better, layer.inputs)


def count_better(mask: Tensor, scores: Tensor, order: Tensor) -> Tensor:
    """How many boxes of `mask` are better than each, (B, 1, N) float32.

    Args:
        mask: (B, N) bool, as :func:`suppress` takes its candidates; `scores` and `order` as there.
    """
    shaped = torch.broadcast_tensors(mask, scores, order)
    if mask.is_meta:  # shapes alone are asked for
        return torch.empty_like(shaped[1]).unsqueeze(1)
    if mask.is_cuda:
        from trtnet.engines.torch import counting  # needs Triton

        return counting.count_better(*shaped).unsqueeze(1)
    rows = zip(*(x.contiguous().numpy() for x in shaped), strict=True)
    counts = [_count_better(*row) for row in rows]
    counted = np.array(counts, np.float32).reshape(shaped[0].shape)
    return torch.from_numpy(counted).unsqueeze(1)


def _count_better(mask: np.ndarray, scores: np.ndarray, order: np.ndarray) -> np.ndarray:
    best_first = np.lexsort((order, -scores))  # NaN last
    ranks, places = scores[best_first], order[best_first]
    number = ~np.isnan(ranks)
    before = np.cumsum(mask[best_first] & number) - (mask[best_first] & number)
    starts = np.ones(len(mask), bool)  # of runs of boxes none of which is better
    starts[1:] = (ranks[1:] != ranks[:-1]) | (places[1:] != places[:-1])
    run = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    counts = np.zeros(len(mask), np.float32)
    counts[best_first] = np.where(number, before[run], 0)
    return counts


def suppress(
    x1: Tensor,
    y1: Tensor,
    x2: Tensor,
    y2: Tensor,
    candidates: Tensor,
    scores: Tensor,
    order: Tensor,
    groups: Tensor | None = None,
    *,
    threshold: float,
    rounds: int | None,
) -> Tensor | tuple[Tensor, Tensor]:
    """What greedy suppression keeps of N boxes of each of B images.

    Args:
        x1, y1, x2, y2: float32 corners. All tensors are (B, N), or broadcast to that.
        candidates: bool: the boxes that take part.
        scores: float32; the higher is better, a NaN neither better nor worse than anything.
        order: integers; of equal scores the lower is better.
        groups: integers: boxes of one group suppress each other; by default all do.
        threshold: a better box whose IoU is larger suppresses.
        rounds: of the iteration that begins with all candidates and keeps, in each round, those
            that nothing kept in the round before suppresses. None for as many as change anything.

    Returns:
        (B, 1, N): int32, 1 where a box is kept; with `rounds` two of bool, after `rounds` rounds
        and after one more.
    """
    given = [x1, y1, x2, y2, candidates, scores, order, *([] if groups is None else [groups])]
    masks = _masks(given, threshold, rounds)
    return masks[0].to(torch.int32) if rounds is None else (masks[0], masks[1])


def kept(*given: Tensor, threshold: float) -> Tensor:
    """(B, 1, N) bool: the boxes that are kept; `given` is what :func:`suppress` takes, in order."""
    return _masks(given, threshold, None)[0]


def _masks(given: Sequence[Tensor], threshold: float, rounds: int | None) -> list[Tensor]:
    shaped = torch.broadcast_tensors(*given)
    if shaped[0].is_meta:  # shapes alone are asked for
        kept = [torch.empty_like(shaped[4], dtype=torch.bool)] * (1 if rounds is None else 2)
    elif shaped[0].is_cuda:
        kept = _by_kernel(list(shaped), threshold, rounds)
    else:
        kept = [torch.from_numpy(mask) for mask in _on_host(shaped, threshold, rounds)]
    return [mask.view(shaped[0].shape).unsqueeze(1) for mask in kept]


def _by_kernel(given: list[Tensor], threshold: float, rounds: int | None) -> list[Tensor]:
    from trtnet.detection.greedy_nms.kernel import greedy_nms  # needs Triton

    boxes = _joined(given[:4])
    candidates, scores, order, *rest = given[4:]
    groups = rest[0] if rest else None
    return list(greedy_nms(boxes, candidates, scores, order, groups, threshold, rounds))


def _joined(sides: list[Tensor]) -> Tensor:
    """The sides (B, N) as boxes (B, N, 4): where they are columns of such a tensor, without a
    copy."""
    first, offsets = sides[0], [side.storage_offset() for side in sides]
    step = offsets[1] - offsets[0]
    is_one = len({(side.untyped_storage().data_ptr(), side.stride()) for side in sides}) == 1
    if is_one and step > 0 and offsets == [offsets[0] + i * step for i in range(4)]:
        return first.as_strided((*first.shape, 4), (*first.stride(), step))
    return torch.stack(sides, -1)


def _on_host(
    given: tuple[Tensor, ...], threshold: float, rounds: int | None
) -> tuple[np.ndarray, ...]:
    """The masks of all images, flat."""
    *sides, candidates, scores, order = (x.contiguous().numpy().reshape(-1) for x in given[:7])
    places = np.flatnonzero(candidates)
    groups = places // max(given[0].shape[1], 1)  # the images
    for labels in given[7:]:
        _, inside = np.unique(labels.contiguous().numpy().reshape(-1)[places], return_inverse=True)
        groups = groups * (len(places) + 1) + inside
    by_group = np.lexsort((sides[0][places], groups))
    places, groups = places[by_group], groups[by_group]
    corners = [side[places] for side in sides]
    edges = _edges(corners, (scores[places], order[places]), groups, np.float32(threshold))
    masks = []
    for kept in _iterate(len(places), *edges, rounds):
        mask = np.zeros(len(candidates), bool)
        mask[places] = kept
        masks.append(mask)
    return tuple(masks)


def _iterate(
    count: int, better: np.ndarray, worse: np.ndarray, rounds: int | None
) -> tuple[np.ndarray, ...]:
    """The mask that does not change any more, or those after `rounds` rounds and one more."""
    before, done = np.ones(count, bool), 0
    while True:
        after = np.ones(count, bool)
        after[worse[before[better]]] = False
        if np.array_equal(before, after) or done == rounds:
            return (before,) if rounds is None else (before, after)
        before, done = after, done + 1


def _edges(
    sides: list[np.ndarray],
    ranks: tuple[np.ndarray, np.ndarray],
    groups: np.ndarray,
    threshold: np.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """Which box suppresses which, as two arrays of positions; equal `groups` stand together, by
    their left side."""
    count = len(groups)
    ends = np.searchsorted(groups, groups, side="right")
    if threshold >= 0:  # then nothing is suppressed that shares no area
        ends = np.minimum(ends, _first_beyond(sides[0], sides[2], groups))
    partners = np.maximum(ends - np.arange(count) - 1, 0)  # behind it in its group
    total = np.concatenate([[0], np.cumsum(partners)])
    found, first = [], 0
    while first < count:
        last = max(int(np.searchsorted(total, total[first] + _PAIRS, side="right")) - 1, first + 1)
        one = np.repeat(np.arange(first, last), partners[first:last])
        place = np.arange(total[first], total[last]) - np.repeat(
            total[first:last], partners[first:last]
        )
        found.append(_hits(sides, ranks, one, one + 1 + place, threshold))
        first = last
    if not found:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    better, worse = (np.concatenate(part) for part in zip(*found, strict=True))
    return better, worse


def _first_beyond(left: np.ndarray, right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each box the first of its group that begins where it ends, or further right. NaN is
    beyond all numbers."""
    ordered = np.sort(left)
    begins, ends = (np.searchsorted(ordered, side, side="left") for side in (left, right))
    _, inside = np.unique(groups, return_inverse=True)
    first = inside * (len(left) + 1)
    return np.searchsorted(first + begins, first + ends, side="left")


def _hits(
    sides: list[np.ndarray],
    ranks: tuple[np.ndarray, np.ndarray],
    one: np.ndarray,
    other: np.ndarray,
    threshold: np.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of `one` and `other` in which one suppresses the other: the better, the worse."""
    with np.errstate(all="ignore"):  # as the layers: NaN and infinity are values
        zero = np.float32(0)
        if threshold >= 0:
            low, high = (
                np.maximum(sides[1][one], sides[1][other]),
                np.minimum(sides[3][one], sides[3][other]),
            )
            near = np.flatnonzero(high - low > zero)
            one, other = one[near], other[near]
        (a1, b1, a2, b2), (c1, d1, c2, d2) = ([x[i] for x in sides] for i in (one, other))
        width = np.maximum(np.minimum(a2, c2) - np.maximum(a1, c1), zero)
        height = np.maximum(np.minimum(b2, d2) - np.maximum(b1, d1), zero)
        shared = width * height
        areas = (a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1)
        hit = np.flatnonzero(shared / (areas - shared) > threshold)
    one, other = one[hit], other[hit]
    scores, order = ranks
    mine, theirs = scores[one], scores[other]
    equal, mine_first = mine == theirs, order[one] < order[other]
    is_better = (mine > theirs) | (equal & mine_first)
    is_worse = (mine < theirs) | (equal & (order[other] < order[one]))
    better = np.concatenate([one[is_better], other[is_worse]])
    worse = np.concatenate([other[is_better], one[is_worse]])
    return better, worse
