"""A detector whose boxes can be computed by hand: it cuts its input into cells of 8 by 8 pixels,
and the score of a cell for class i is the mean of channel i in it. Cells do not overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

import trtnet
from trtnet import detection
from trtnet.nn import functional as F

EDGE = 8
PLACES = 10


class Cells(trtnet.Module):
    """Input (N, 3, H, W), edges that are multiples of 8."""

    def __init__(self, output_format: str, score_thresh: float) -> None:
        super().__init__()
        self.output_format = detection.checked_output_format(output_format)
        self.how = detection.Suppression(score_threshold=score_thresh, max_detections=PLACES)

    def forward(self, x: Any) -> dict[str, Any]:
        rows, columns = (int(edge) // EDGE for edge in x.shape[2:])
        scores = F.avg_pool2d(x, EDGE).flatten(2).transpose(1, 2)
        top, left = np.mgrid[:rows, :columns].reshape(2, -1) * EDGE
        corners = np.stack([left, top, left + EDGE, top + EDGE], 1).astype(np.float32)
        boxes = x.network.constant(np.tile(corners, (x.shape[0], 1, 1)))
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        found = detection.detections(boxes, scores, self.how)
        return detection.output_tensors(found, self.output_format)


def make(output_format: str = "efficientnms", score_thresh: float = 0.25) -> Cells:
    """The detector."""
    return Cells(output_format, score_thresh)


make.input_shape = (3, 64, 64)  # type: ignore[attr-defined]
make.task = "detection"  # type: ignore[attr-defined]
