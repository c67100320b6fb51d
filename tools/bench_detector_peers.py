"""PyTorch's side of ``tools/bench_detectors.py``: detectors that are called as they are, or whose
network is one CUDA graph, and the boxes that candidates find."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from paired_timing import recorded
from torchvision.ops import batched_nms, box_iou

from trtnet.zoo.detection.torch_yolox import YOLOX, cells, decoded

THIN = 1.0  # pixels


@dataclass(frozen=True)
class Found:
    """Boxes (K, 4) in float64, scores (K,) and classes (K,), on the CPU."""

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor

    @staticmethod
    def of_outputs(outputs: Sequence[torch.Tensor]) -> Found:
        """Those of the first image of the four tensors of ``efficientnms``."""
        counts, boxes, scores, classes = outputs
        count = int(counts[0])
        return Found(boxes[0, :count].double(), scores[0, :count].double(), classes[0, :count])

    def above(self, score: float) -> Found:
        """Those with at least this score that are not thinner than a pixel: clipping to the image
        leaves boxes without an area, whose overlaps say nothing."""
        kept = (self.scores >= score) & (self.boxes[:, 2:] - self.boxes[:, :2] >= THIN).all(1)
        return Found(self.boxes[kept], self.scores[kept], self.classes[kept])

    def share_in(self, others: Found, iou: float) -> float:
        """The share of these that have one among the `others`: the same class, and this IoU."""
        if not len(self.scores):
            return 1.0
        if not len(others.scores):
            return 0.0
        fits = box_iou(self.boxes, others.boxes) >= iou
        fits &= self.classes[:, None].long() == others.classes.long()
        return float(fits.any(1).double().mean())


def found_by(result: Any) -> Found:
    """What one of torchvision's detectors returned for one image."""
    one = result[0]
    boxes, scores, labels = (one[name].cpu() for name in ("boxes", "scores", "labels"))
    return Found(boxes.double(), scores.double(), labels)


@dataclass
class Peer:
    """A detector that is called with one image, as torchvision's are."""

    model: Callable[..., Any]
    image: torch.Tensor
    autocast: bool = False

    def __call__(self) -> Any:
        with torch.autocast("cuda", torch.float16) if self.autocast else nullcontext():
            return self.model([self.image])


class YoloxBoxes(torch.nn.Module):
    """YOLOX with the decoding and suppression that its authors have, in FP32: called with one
    prepared image (1, 3, H, W) in a list, it returns what torchvision's detectors return."""

    def __init__(self, twin: YOLOX, image: torch.Tensor) -> None:
        super().__init__()
        self.network: torch.nn.Module = YoloxNetwork(twin)
        self.limits = (twin.score_thresh, twin.nms_thresh)
        self.counts = (twin.topk_candidates, twin.detections_per_img)
        self.cells: torch.Tensor
        self.register_buffer("cells", cells(*image.shape[-2:]))

    def forward(self, images: Sequence[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Boxes, scores and labels of the one image."""
        x = images[0]
        found = self.network(x).float()
        boxes = decoded(found, self.cells.float())[0]
        height, width = x.shape[-2:]
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        scores, labels = (found[0, :, 5:].sigmoid() * found[0, :, 4:5].sigmoid()).max(1)
        scores, order = scores.topk(min(self.counts[0], len(scores)))
        order = order[scores > self.limits[0]]
        scores, boxes, labels = scores[: len(order)], boxes[order], labels[order]
        kept = batched_nms(boxes, scores, labels, self.limits[1])[: self.counts[1]]
        return [{"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}]


class YoloxNetwork(torch.nn.Module):
    """The part of YOLOX whose sizes do not depend on the data."""

    def __init__(self, twin: YOLOX) -> None:
        super().__init__()
        self.backbone, self.head = twin.backbone, twin.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, N, 5 + classes)."""
        found: torch.Tensor = self.head(self.backbone(x))
        return found


class Dense(torch.nn.Module):
    """Backbone, pyramid, and the head that sees the pyramid's feature maps, of one of torchvision's
    detectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = model.rpn.head if hasattr(model, "rpn") else model.head

    def forward(self, x: torch.Tensor) -> Any:
        """The features by name, and what the head makes of them."""
        features = self.backbone(x)
        return features, self.head(list(features.values()))


class Replayed(torch.nn.Module):
    """A CUDA graph in the place of a module."""

    def __init__(self, launch: Callable[[], object], given: torch.Tensor, results: Any) -> None:
        super().__init__()
        self._launch, self._given, self._results = launch, given, results

    def forward(self, x: torch.Tensor) -> Any:
        """What the graph writes, for `x` in any type."""
        self._given.copy_(x)
        self._launch()
        return self._results


class Constant(torch.nn.Module):
    """What another module has computed already."""

    def __init__(self, results: Any) -> None:
        super().__init__()
        self._results = results

    def forward(self, *_: Any) -> Any:
        """The results."""
        return self._results


def dense_replayed(model: Any, prepared: torch.Tensor) -> torch.nn.Module:
    """`model` on the GPU with its network in FP16, compiled, as one CUDA graph for the size of
    `prepared`, a batch; the rest stays as it is."""
    is_yolox = isinstance(model, YoloxBoxes)
    network = model.network if is_yolox else Dense(model)
    half = copy.deepcopy(network).half().to(memory_format=torch.channels_last)
    given = prepared.half().contiguous(memory_format=torch.channels_last)
    run = torch.compile(half, dynamic=False)
    launch, results = recorded(lambda: run(given))
    result: torch.nn.Module = model
    if is_yolox:
        model.network = Replayed(launch, given, results)
        return result
    features, heads = results
    model.backbone = Replayed(launch, given, features)
    if hasattr(model, "rpn"):
        model.rpn.head = Constant(heads)
    else:
        model.head = Constant(heads)
    return result
