"""The reference of greedy_nms, in PyTorch: the rule itself."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.detection.overlap import below


def greedy_nms(
    boxes: Tensor,
    candidates: Tensor,
    scores: Tensor,
    order: Tensor,
    groups: Tensor,
    threshold: float,
) -> Tensor:
    """Returns int32 (B, N): 1 for each candidate that no better box kept, of its group, overlaps by
    more than `threshold`."""
    limit = below(threshold) if boxes.dtype == torch.float32 else threshold
    kept = torch.zeros_like(candidates, dtype=torch.int32)
    for image in range(len(boxes)):
        by_order = torch.argsort(order[image], stable=True)
        ranks = torch.nan_to_num(scores[image], nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        best_first = by_order[torch.argsort(ranks[by_order], descending=True, stable=True)]
        part = best_first[candidates[image][best_first] != 0]
        for i in part.tolist():
            others = part[kept[image, part] != 0]
            higher = scores[image, others] > scores[image, i]
            equal = scores[image, others] == scores[image, i]
            better = higher | (equal & (order[image, others] < order[image, i]))
            others = others[better & (groups[image, others] == groups[image, i])]
            overlaps = _iou(boxes[image, i], boxes[image, others]) > limit
            kept[image, i] = int(not bool(overlaps.any()))
    return kept


def _iou(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union; NaN for boxes without area."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    shared = width * height
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    areas = areas + (box[2] - box[0]) * (box[3] - box[1])
    return shared / (areas - shared)
