"""torchvision's two-stage detectors, called on prepared batches, with the outputs of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import clip_boxes_to_image

from trtnet.zoo.detection.torch_outputs import padded

Tensors = dict[str, torch.Tensor]


class _Anchors(nn.Module):
    """torchvision's generator of anchors, whose calls no hook sees."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self._generate = generator.forward
        self.num_anchors_per_location = generator.num_anchors_per_location

    def __call__(self, images: ImageList, features: list[torch.Tensor]) -> list[torch.Tensor]:
        anchors: list[torch.Tensor] = self._generate(images, features)
        return anchors


class TorchTwoStage(nn.Module):
    """A Faster, Mask or Keypoint R-CNN of torchvision without the preparation of images: its parts,
    under their names, called in its order.

    Lists of proposals and of detections are filled up with boxes without area, which torchvision
    drops: so its modules are called with as many boxes as ours.

    Args:
        model: torchvision's detector.
        output_format: see :data:`trtnet.detection.OUTPUT_FORMATS`.
    """

    def __init__(self, model: Any, output_format: str) -> None:
        super().__init__()
        self.backbone: nn.Module = model.backbone
        self.rpn: Any = model.rpn
        self.roi_heads: Any = model.roi_heads
        # Not compared as modules, because they return one list for each image: the generator of
        # anchors, and the proposal network as a whole, see forward(). What is in it, is.
        self.rpn.anchor_generator = _Anchors(self.rpn.anchor_generator)
        self.output_format = output_format

    def forward(self, x: torch.Tensor, image_sizes: torch.Tensor | None = None) -> Tensors:
        whole = [tuple(x.shape[-2:])] * len(x)
        sizes = whole if image_sizes is None else [tuple(size) for size in image_sizes.tolist()]
        features = self.backbone(x)
        proposals, _ = self.rpn.forward(ImageList(x, sizes), features)
        proposals = [_filled(boxes, self.rpn.post_nms_top_n()) for boxes in proposals]
        heads = self.roi_heads
        pooled = _pooled(heads.box_roi_pool, features, proposals, whole)
        logits, codes = heads.box_predictor(heads.box_head(pooled))
        if self.output_format == "raw":
            return self._raw(logits, codes, proposals, sizes)
        columns = heads.postprocess_detections(logits, codes, proposals, sizes)
        names = ("boxes", "scores", "labels")
        found = [dict(zip(names, each, strict=True)) for each in zip(*columns, strict=True)]
        count = heads.detections_per_img
        boxes = [_filled(image["boxes"], count) for image in found]
        extra = self._masks(features, boxes, found, whole)
        extra.update(self._heatmaps(features, boxes, whole))
        for index, image in enumerate(found):
            for value in extra.values():
                value[index, len(image["scores"]) :] = 0
        return {**padded(found, count, self.output_format), **extra}

    def _masks(self, features: Tensors, boxes: Any, found: Any, whole: Any) -> Tensors:
        heads = self.roi_heads
        if not heads.has_mask():
            return {}
        labels = [F.pad(image["labels"], (0, len(each) - len(image["labels"])))
                  for image, each in zip(found, boxes, strict=True)]  # fmt: skip
        pooled = _pooled(heads.mask_roi_pool, features, boxes, whole)
        logits = heads.mask_predictor(heads.mask_head(pooled))
        return {"det_masks": torch.stack(list(maskrcnn_inference(logits, labels)))[:, :, 0]}

    def _heatmaps(self, features: Tensors, boxes: Any, whole: Any) -> Tensors:
        heads = self.roi_heads
        if not heads.has_keypoint():
            return {}
        pooled = _pooled(heads.keypoint_roi_pool, features, boxes, whole)
        heatmaps = heads.keypoint_predictor(heads.keypoint_head(pooled))
        return {"det_keypoints": heatmaps.unflatten(0, (len(boxes), -1))}

    def _raw(self, logits: Any, codes: Any, proposals: Any, sizes: Sequence[Any]) -> Tensors:
        scores = logits.softmax(-1)
        scores[:, 0] = 0  # the background
        decoded = self.roi_heads.box_coder.decode(codes, proposals)
        images = zip(decoded.unflatten(0, (len(sizes), -1)), sizes, strict=True)
        boxes = torch.stack([clip_boxes_to_image(*image) for image in images])
        present = (torch.stack(proposals)[..., 2] > 0)[..., None]
        scores = scores.unflatten(0, (len(sizes), -1)) * present
        return {"boxes": boxes * present[..., None], "scores": scores}


def _filled(boxes: torch.Tensor, count: int) -> torch.Tensor:
    """(count, 4): `boxes`, and others of zeros."""
    return F.pad(boxes, (0, 0, 0, count - len(boxes)))


def _pooled(pool: Any, features: Tensors, boxes: Any, whole: Any) -> torch.Tensor:
    """What `pool` gives; the scales of levels are those of the padded batch, and of this one: it
    keeps what it found for the first."""
    pool.scales = pool.map_levels = None
    return pool(features, boxes, whole)
