"""What torchvision's detectors find in images, as outputs of fixed size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch


def padded(
    found: Sequence[dict[str, torch.Tensor]], count: int, output_format: str
) -> dict[str, torch.Tensor]:
    """What torchvision found in each image, as outputs of `count` places."""
    columns = defaultdict(list)
    for image in found:
        spare = count - len(image["scores"])
        for name in ("boxes", "scores", "labels"):
            rest = image[name].new_zeros((spare, *image[name].shape[1:]))
            columns[name].append(torch.cat([image[name], rest]))
    boxes, scores, labels = (torch.stack(columns[name]) for name in ("boxes", "scores", "labels"))
    numbers = torch.tensor([[len(image["scores"])] for image in found], dtype=torch.int32)
    if output_format == "efficientnms":
        return {"num_dets": numbers, "det_boxes": boxes, "det_scores": scores,
                "det_classes": labels.int()}  # fmt: skip
    missing = torch.arange(count)[None] >= numbers
    classes = torch.where(missing, -1.0, labels.to(scores.dtype))
    return {"detections": torch.cat([boxes, scores[..., None], classes[..., None]], 2)}
