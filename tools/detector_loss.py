"""What YOLOX learns from: which cells answer for which box (SimOTA), and the loss of their answers.

Ge et al., YOLOX: Exceeding YOLO Series in 2021, https://arxiv.org/abs/2107.08430.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

RADIUS = 1.5  # strides around the centre of a box, in which cells may answer for it
MOST_CELLS = 10  # that answer for a box
IOU_COST, OUTSIDE = 3.0, 1e5
BOX_WEIGHT, EDGE_WEIGHT = 5.0, 1.0


class Answers(NamedTuple):
    """Which cells answer for a box: image (M,), cell (M,) and box (M,), and the overlap (M,) of
    what each gave with its box."""

    image: torch.Tensor
    cell: torch.Tensor
    box: torch.Tensor
    iou: torch.Tensor


def pair_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union (B, G, N) of boxes (B, G, 4) and (B, N, 4)."""
    first, second = first[:, :, None], second[:, None]
    edges = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2]
    )
    shared = edges.clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-6)


@torch.no_grad()
def assign(
    given: torch.Tensor, boxes: torch.Tensor, logits: torch.Tensor,
    truth: torch.Tensor, classes: torch.Tensor,
) -> Answers:  # fmt: skip
    """SimOTA: a box is answered for by the cells of the lowest cost, as many as their overlaps
    with it add up to; a cell that several boxes want answers for the one of the lowest cost.

    Args:
        given: (N, 3) column, row and stride of the cells.
        boxes: (B, N, 4) of the cells.
        logits: (B, N, 1 + C) of the cells: of an object, and of the classes.
        truth: (B, G, 4) boxes.
        classes: (B, G); -1 where there is no box.
    """
    real = (classes >= 0)[..., None]  # (B, G, 1)
    at = (given[:, :2] + 0.5) * given[:, 2:]
    within = torch.minimum(at - truth[:, :, None, :2], truth[:, :, None, 2:] - at).amin(-1) > 0
    centre = (truth[..., :2] + truth[..., 2:]) / 2
    near = (at - centre[:, :, None]).abs().amax(-1) < RADIUS * given[:, 2]
    iou = pair_iou(truth, boxes) * real
    score = (logits[..., 1:].sigmoid() * logits[..., :1].sigmoid()).sqrt().clamp(1e-6, 1 - 1e-6)
    others, own = (1 - score).log(), score.log()
    index = classes.clamp(min=0)[..., None].expand(-1, -1, boxes.shape[1])
    gain = (own - others).transpose(1, 2).gather(1, index)
    cost = -others.sum(-1)[:, None] - gain - IOU_COST * (iou + 1e-8).log()
    cost = cost + OUTSIDE * ~(within & near) + OUTSIDE**2 * ~((within | near) & real)
    count = iou.topk(MOST_CELLS, -1).values.sum(-1).long().clamp(min=1)
    lowest, cells = cost.topk(MOST_CELLS, -1, largest=False)
    wanted = torch.arange(MOST_CELLS) < count[..., None]
    wanted &= lowest < OUTSIDE**2
    taken = torch.full_like(cost, float("inf")).scatter(
        -1, cells, torch.where(wanted, lowest, float("inf"))
    )
    least, box = taken.min(1)  # (B, N)
    image, cell = least.isfinite().nonzero(as_tuple=True)
    box = box[image, cell]
    return Answers(image, cell, box, iou[image, box, cell])


def loss(
    given: torch.Tensor, boxes: torch.Tensor, logits: torch.Tensor,
    truth: torch.Tensor, classes: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The loss of a batch, for each cell that answers; arguments as of :func:`assign`."""
    answers = assign(given, boxes, logits, truth, classes)
    image, cell, box, iou = answers
    count = max(len(image), 1)
    found, wanted = boxes[image, cell], truth[image, box]
    edge = (wanted[:, 2:] - wanted[:, :2]).prod(-1, keepdim=True).sqrt()
    of_boxes = complete_box_iou_loss(found, wanted, reduction="sum")
    of_edges = ((found - wanted).abs() / edge).sum()
    objects = torch.zeros_like(logits[..., 0])
    objects[image, cell] = 1
    of_objects = F.binary_cross_entropy_with_logits(logits[..., 0], objects, reduction="sum")
    kinds = F.one_hot(classes[image, box], logits.shape[-1] - 1) * iou[:, None]
    of_classes = F.binary_cross_entropy_with_logits(logits[image, cell, 1:], kinds.float(),
                                                    reduction="sum")  # fmt: skip
    total: torch.Tensor = BOX_WEIGHT * of_boxes + EDGE_WEIGHT * of_edges + of_objects + of_classes
    return total / count
