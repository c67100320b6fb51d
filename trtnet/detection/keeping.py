"""Suppression by whom the network chooses: ordinary layers, TensorRT's layer, or a plugin."""

from __future__ import annotations

from trtnet.detection.nms_layer import keep_by_layer
from trtnet.detection.suppression import Kept, is_better, positions, suppress
from trtnet.dtypes import int32
from trtnet.ops.elementwise import logical_not, logical_or, ne
from trtnet.ops.reduction import any as any_of
from trtnet.tensor import Tensor


def keep(
    boxes: Tensor,
    candidates: Tensor,
    scores: Tensor,
    iou_threshold: float,
    *,
    order: Tensor | None = None,
    better: Tensor | None = None,
    groups: Tensor | None = None,
    group_count: int | None = None,
    form: str = "loop",
    rounds: int = 32,
) -> Kept:
    """Which boxes greedy suppression keeps.

    Who suppresses is the choice of the network (:class:`trtnet.Network`): layers of arithmetic,
    ``"native"``; TensorRT's own, ``"layer"``, with the limits of
    :func:`trtnet.detection.nms_layer.keep_by_layer`; or the plugin ``greedy_nms``, ``"plugin"``,
    whose boxes are those of the native form.

    Args:
        boxes: (B, N, 4) corners.
        candidates: (B, N) bool: the boxes that take part.
        scores: (B, N) float32.
        iou_threshold: of 0..1; a better box that overlaps by more suppresses.
        order: (B, N) integers: of equal scores the lower is better; by default the positions.
        better: of :func:`trtnet.detection.is_better` for `scores` and `order`, where it is known.
        groups: (B, N) integers: only boxes of one group suppress each other.
        group_count: how many groups there are at most, numbered from 0; for ``"layer"``.
        form, rounds: of the native form, see :func:`trtnet.detection.suppress`.
    """
    choice = boxes.network.choose_nms()
    if choice == "layer":
        return keep_by_layer(boxes, candidates, scores, iou_threshold, groups, group_count)
    if choice == "native":
        better = is_better(scores, order) if better is None else better
        return suppress(boxes, candidates, better, iou_threshold, groups=groups, form=form,
                        rounds=rounds)  # fmt: skip
    from trtnet.detection.greedy_nms.declaration import GreedyNms  # declared on first use

    none = candidates.to(int32) * 0
    rank = none + (positions(scores) if order is None else order.to(int32))
    group = none if groups is None else none + groups.to(int32)
    kept = GreedyNms(iou_threshold)(boxes, candidates.to(int32), scores, rank, group)
    mask = ne(kept, 0)
    return Kept(mask, any_of(logical_or(mask, logical_not(mask)), dim=-1))
