"""Non-maximum suppression, and other layers whose output size depends on values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall


def nms(layer: LayerContext) -> TorchCall:
    """NMS: the boxes that overlap no better box of their class."""
    boxes, scores, count, iou, threshold = (layer.input(i) for i in range(5))
    options = {
        "iou": 0.0 if iou is None else iou,
        "threshold": 0.0 if threshold is None else threshold,
        "centers": layer["bounding_box_format"] == "CENTER_SIZES",
        "limit": layer["topk_box_limit"],
        "dtype": layer.output_dtype(),
    }
    return TorchCall(suppress, (boxes, scores, count), options)


def suppress(
    boxes: Tensor,
    scores: Tensor,
    count: Tensor,
    *,
    iou: Tensor | float,
    threshold: Tensor | float,
    centers: bool,
    limit: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Rows (batch, class, box) of the boxes kept, and their number.

    Args:
        boxes: [batch, boxes, 4], or [batch, boxes, classes, 4].
        scores: [batch, boxes, classes].
        count: the most boxes kept for each class of each batch item.
        iou: boxes that overlap a better one of their class by more are dropped.
        threshold: boxes with no larger score are dropped.
        centers: boxes are centre and size, not two corners.
        limit: the most boxes of each batch item considered, those of the best scores.
        dtype: of the rows.

    Rows are in the order of their batch items, within one of falling scores.
    """
    corners = _corners(boxes, centers)
    if corners.dim() == 3:
        corners = corners.unsqueeze(2).expand(-1, -1, scores.shape[2], -1)
    rows = []
    for item in range(scores.shape[0]):
        flat = scores[item].reshape(-1)
        kept: dict[int, list[int]] = {}
        for position in torch.argsort(flat, descending=True, stable=True)[:limit].tolist():
            box, label = divmod(position, scores.shape[2])
            chosen = kept.setdefault(label, [])
            if len(chosen) >= int(count) or flat[position] <= float(threshold):
                continue
            overlaps = _overlap(corners[item, box, label], corners[item, chosen, label])
            if bool((overlaps <= float(iou)).all()):
                chosen.append(box)
                rows.append((item, label, box))
    result = torch.tensor(rows, dtype=dtype, device=boxes.device).reshape(-1, 3)
    return result, torch.tensor(len(rows), dtype=torch.int32, device=boxes.device)


def _corners(boxes: Tensor, centers: bool) -> Tensor:
    """Boxes as (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centers:
        first, second = first - second / 2, first + second / 2
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of `box` with each of `others`; of empty boxes 0."""
    low = torch.maximum(box[:2], others[:, :2])
    high = torch.minimum(box[2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = (others[:, 2:] - others[:, :2]).prod(-1) + (box[2:] - box[:2]).prod()
    return torch.where(common > 0, common / (areas - common), 0)


def non_zero(layer: LayerContext) -> TorchCall:
    """NON_ZERO: where the input is not zero."""
    return TorchCall(positions, (layer.x, layer.output_dtype()))


def positions(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The indices of all elements that are not zero, one column each, in row-major order."""
    return torch.nonzero(x).T.to(dtype)


def most_rows(
    boxes: Tensor, scores: Tensor, count: Tensor, *, dtype: torch.dtype, **options: object
) -> tuple[Tensor, Tensor]:
    """The shapes of :func:`suppress` where it keeps as much as it can."""
    images, number, classes = scores.shape
    most = images * classes * min(number, int(count))
    return boxes.new_empty((most, 3), dtype=dtype), boxes.new_empty((), dtype=torch.int32)


def all_positions(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The shape of :func:`positions` where nothing is zero."""
    return x.new_empty((x.dim(), x.numel()), dtype=dtype)


LARGEST: dict[object, Callable[..., Any]] = {suppress: most_rows, positions: all_positions}
"""What computes the shapes of each operation whose size depends on values, at their largest."""

OPERATIONS = {"NMS": nms, "NON_ZERO": non_zero}
