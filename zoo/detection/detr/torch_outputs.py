"""What transformers' DETR models find, as outputs of ours."""

from __future__ import annotations

from typing import Any

import torch

from trtnet.zoo.detection.torch_outputs import padded


class Called(torch.nn.Module):
    """What is the same in models of transformers whose scores are sigmoids: called on prepared
    images, outputs as ours."""

    model: Any

    def __init__(self, config: Any, **wanted: Any) -> None:
        super().__init__(config)
        self.wanted = wanted

    def forward(
        self, images: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        found = super().forward(images)  # type: ignore[misc]
        scores = found.logits.sigmoid()
        return outputs(scores, found.pred_boxes, images, image_sizes, **self.wanted)


def outputs(
    scores: torch.Tensor,
    boxes: torch.Tensor,
    images: torch.Tensor,
    image_sizes: torch.Tensor | None,
    score_thresh: float,
    detections_per_img: int,
    output_format: str,
) -> dict[str, torch.Tensor]:
    """Outputs by name.

    Args:
        scores: (B, Q, C).
        boxes: (B, Q, 4) centre, width and height, in images.
    """
    height, width = images.shape[2:]
    x, y, w, h = boxes.unbind(-1)
    edges = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
    edges = edges * torch.tensor([width, height, width, height])
    if image_sizes is None:
        image_sizes = torch.tensor([[height, width]] * len(images))
    limits = image_sizes[:, None, [1, 0, 1, 0]].to(edges)
    edges = torch.minimum(edges.clamp(min=0), limits)
    if output_format == "raw":
        return {"boxes": edges, "scores": scores}
    found = []
    for box, score in zip(edges, scores, strict=True):
        best, order = score.flatten().topk(detections_per_img)
        order, best = order[best > score_thresh], best[best > score_thresh]
        found.append({"boxes": box[order // score.shape[1]], "scores": best,
                      "labels": order % score.shape[1]})  # fmt: skip
    return padded(found, detections_per_img, output_format)
