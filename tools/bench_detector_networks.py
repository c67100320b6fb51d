"""PyTorch's detectors up to the boxes and scores of all places, in a form that ``torch.compile``
and a CUDA graph take: what they need besides the image is made once and kept on the device.

Their weights may have any type; boxes are decoded and scores made in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trtnet.zoo.detection.torch_yolox import YOLOX, cells, decoded


class Predictions(NamedTuple):
    """What a network says of its N places.

    Attributes:
        boxes: (B, N, 4) float32: corners in pixels, inside the image.
        scores: (B, N) float32, of the best class.
        classes: (B, N) int64.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True)
class Rules:
    """What becomes of boxes, under torchvision's names.

    Attributes:
        classes: how many there are.
    """

    classes: int
    score_thresh: float
    nms_thresh: float
    topk_candidates: int
    detections_per_img: int

    @classmethod
    def of(cls, model: Any) -> Rules:
        """Those of a counterpart of the zoo."""
        is_yolox = isinstance(model, YOLOX)
        last: Any = model.head.cls_preds[0] if is_yolox else model.model[-1].cv3[0][-1]
        return cls(last.out_channels, model.score_thresh, model.nms_thresh,
                   model.topk_candidates, model.detections_per_img)  # fmt: skip


class Network(nn.Module):
    """A detector that is called with prepared images (B, 3, H, W) of its weights' type."""

    limits: torch.Tensor

    def __init__(self, twin: Any, height: int, width: int) -> None:
        super().__init__()
        self.twin = twin
        self.register_buffer("limits", torch.tensor([width, height, width, height]).float())

    def forward(self, x: torch.Tensor) -> Predictions:
        """The predictions."""
        raise NotImplementedError

    def inside(self, boxes: torch.Tensor) -> torch.Tensor:
        """`boxes` clipped to the image."""
        return boxes.clamp(min=0).minimum(self.limits)


class YoloxNetwork(Network):
    """YOLOX."""

    cells: torch.Tensor

    def __init__(self, twin: YOLOX, height: int, width: int) -> None:
        super().__init__(twin, height, width)
        self.register_buffer("cells", cells(height, width))

    def forward(self, x: torch.Tensor) -> Predictions:
        found = self.twin.found(x)
        best, classes = found[..., 5:].max(2)
        scores = best.float().sigmoid() * found[..., 4].float().sigmoid()
        return Predictions(self.inside(decoded(found, self.cells)), scores, classes)


class YoloNetwork(Network):
    """YOLOv8 and YOLO11."""

    cells: torch.Tensor
    bins: torch.Tensor

    def __init__(self, twin: Any, height: int, width: int) -> None:
        super().__init__(twin, height, width)
        self.register_buffer("cells", cells(height, width))
        self.register_buffer("bins", torch.arange(float(twin.model[-1].dfl.conv.in_channels)))

    def forward(self, x: torch.Tensor) -> Predictions:
        head = self.twin.model[-1]
        features = self.twin.features(x)
        raw, logits = (
            torch.cat([branch(f).flatten(2) for branch, f in zip(part, features, strict=True)], 2)
            for part in (head.cv2, head.cv3)
        )
        chances = raw.float().unflatten(1, (4, len(self.bins))).softmax(2)
        sides = (chances * self.bins[:, None]).sum(2).transpose(1, 2)  # (B, N, 4)
        centre, stride = self.cells[:, :2] + 0.5, self.cells[:, 2:]
        boxes = torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], 2) * stride
        best, classes = logits.max(1)
        return Predictions(self.inside(boxes), best.float().sigmoid(), classes)


class QueryNetwork(Network):
    """transformers' RT-DETR with the post-processing that its image processor has: places are the
    pairs of a query and a class with the best scores, the best first."""

    def __init__(self, twin: Any, height: int, width: int) -> None:
        super().__init__(twin, height, width)
        self.count = twin.wanted["detections_per_img"]

    def forward(self, x: torch.Tensor) -> Predictions:
        from transformers import RTDetrForObjectDetection

        found = RTDetrForObjectDetection.forward(self.twin, x)
        scores, order = found.logits.float().sigmoid().flatten(1).topk(self.count)
        kinds = found.logits.shape[2]
        at = (order // kinds)[..., None].expand(-1, -1, 4)
        middle, sides = found.pred_boxes.float().gather(1, at).split(2, 2)
        corners = torch.cat([middle - sides / 2, middle + sides / 2], 2) * self.limits
        return Predictions(self.inside(corners), scores, order % kinds)


def network_of(
    model: Any, shape: Sequence[int], dtype: torch.dtype, device: str, folded: bool
) -> Network:
    """A copy of the zoo's counterpart `model` as a network for images of this shape (B, 3, H, W).

    Args:
        folded: whether its BatchNorms become part of the convolutions before them.
    """
    twin = copy.deepcopy(model)
    if folded:
        fold(twin)
    twin.to(dtype).to(memory_format=torch.channels_last)
    height, width = shape[2:]
    if hasattr(twin, "wanted"):
        kind: type[Network] = QueryNetwork
    else:
        kind = YoloxNetwork if isinstance(twin, YOLOX) else YoloNetwork
    return kind(twin, height, width).eval().to(device)


def fold(model: nn.Module) -> None:
    """Makes each BatchNorm that follows a convolution in its module part of the convolution."""
    for module in model.modules():
        children = list(module.named_children())
        for (first, one), (second, other) in pairwise(children):
            if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(one, other))
                setattr(module, second, nn.Identity())
