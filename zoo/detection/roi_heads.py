"""The second stage of two-stage detectors, in torchvision's form: what is in the proposals.

Girshick, Fast R-CNN, https://arxiv.org/abs/1504.08083; He et al., Mask R-CNN,
https://arxiv.org/abs/1703.06870.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn
from trtnet.detection.coding import SSD, clip_to_image, decode_boxes
from trtnet.detection.formats import output_tensors, where_found
from trtnet.detection.roi_align import Pyramid
from trtnet.detection.selection import Detections, Suppression, detections, pick
from trtnet.dtypes import float32
from trtnet.ops.elementwise import logical_and, where
from trtnet.ops.shape import flatten, reshape, unsqueeze
from trtnet.zoo.detection.rpn import Proposals, is_large

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

SMALLEST = 1e-2  # pixels: boxes with a shorter edge are dropped
Features = Mapping[str, "Tensor"]


class MultiScaleRoIAlign(nn.Module):
    """Features of boxes, each from the level that fits its size.

    Args:
        featmap_names: the levels, the largest features first.
        strides: pixels of the network's input for each pixel of a level.
        output_size: edge of what is returned.
        sampling_ratio: samples of each bin along each axis.
    """

    def __init__(
        self,
        featmap_names: Sequence[str],
        strides: Sequence[int],
        output_size: int,
        sampling_ratio: int = 2,
    ) -> None:
        super().__init__()
        self.featmap_names, self.strides = tuple(featmap_names), tuple(strides)
        self.output_size = (output_size, output_size)
        self.sampling_ratio = sampling_ratio

    def forward(self, features: Features, boxes: Tensor) -> Tensor:
        """(B·K, C, size, size) from boxes (B, K, 4) in pixels of the network's input."""
        pyramid = Pyramid([features[name] for name in self.featmap_names], self.strides)
        return flatten(pyramid.pool(boxes, self.output_size, self.sampling_ratio), 0, 1)


class RoIHeads(nn.Module):
    """Detections from proposals: a box for each class and a score, suppression, and for what is
    left masks or keypoints.

    Args:
        box_roi_pool, box_head, box_predictor: features of boxes, their representation, its logits
            of classes (the background first) and codes of boxes.
        how: how boxes are chosen.
        mask_roi_pool, mask_head, mask_predictor: logits of masks, one for each class; or ``None``.
        keypoint_roi_pool, keypoint_head, keypoint_predictor: heatmaps; or ``None``.
        bbox_reg_weights: of the box coder.
    """

    def __init__(
        self,
        box_roi_pool: MultiScaleRoIAlign,
        box_head: nn.Module,
        box_predictor: nn.Module,
        how: Suppression,
        mask_roi_pool: MultiScaleRoIAlign | None = None,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
        keypoint_roi_pool: MultiScaleRoIAlign | None = None,
        keypoint_head: nn.Module | None = None,
        keypoint_predictor: nn.Module | None = None,
        bbox_reg_weights: Sequence[float] = SSD,
    ) -> None:
        super().__init__()
        self.box_roi_pool = box_roi_pool
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.how = how
        self.mask_roi_pool = mask_roi_pool
        self.mask_head = mask_head
        self.mask_predictor = mask_predictor
        self.keypoint_roi_pool = keypoint_roi_pool
        self.keypoint_head = keypoint_head
        self.keypoint_predictor = keypoint_predictor
        self.bbox_reg_weights = tuple(bbox_reg_weights)

    def forward(
        self,
        features: Features,
        proposals: Proposals,
        size: Sequence[Any] | Tensor,
        output_format: str = "efficientnms",
    ) -> dict[str, Tensor]:
        """Outputs by name.

        Args:
            features: (B, C, H, W) by the names of their levels.
            size: what boxes are clipped to, see :func:`trtnet.detection.coding.clip_to_image`.
            output_format: one of :data:`trtnet.detection.OUTPUT_FORMATS`.
        """
        boxes, scores = self._boxes(features, proposals, size)
        if output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        scores = where(is_large(boxes, SMALLEST), scores, 0.0)
        found = detections(boxes, scores, self.how)
        outputs = output_tensors(found, output_format)
        if self.mask_roi_pool is not None:
            outputs["det_masks"] = where_found(found, self._masks(features, found))
        if self.keypoint_roi_pool is not None:
            outputs["det_keypoints"] = where_found(found, self._heatmaps(features, found))
        return outputs

    def _boxes(
        self, features: Features, proposals: Proposals, size: Sequence[Any] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, K, C, 4), zeros where there is no proposal, and scores (B, K, C), which are 0
        there and for the background: no threshold is below that."""
        batch, count = proposals.boxes.shape[:2]
        pooled = self.box_head(self.box_roi_pool(features, proposals.boxes))
        logits, codes = self.box_predictor(pooled)
        classes = logits.shape[1]
        codes = reshape(codes, batch, count, classes, 4)
        boxes = decode_boxes(codes, unsqueeze(proposals.boxes, 2), self.bbox_reg_weights)
        scores = reshape(_probabilities(logits), batch, count, classes)
        foreground = scores.network.constant((np.arange(classes) > 0).reshape(1, 1, classes))
        is_one = unsqueeze(proposals.is_one, 2)
        boxes = where(unsqueeze(is_one, 3), clip_to_image(boxes, size), 0.0)
        return boxes, where(logical_and(is_one, foreground), scores, 0.0)

    def _masks(self, features: Features, found: Detections) -> Tensor:
        """(B, K, M, M) probabilities, of the mask of each detection's class."""
        assert self.mask_roi_pool is not None
        assert self.mask_head is not None
        assert self.mask_predictor is not None
        pooled = self.mask_roi_pool(features, found.det_boxes)
        logits = self.mask_predictor(self.mask_head(pooled))
        classes, edge = logits.shape[1:3]
        label = reshape(found.det_classes, -1, 1)
        chosen = pick(reshape(logits, -1, classes, edge * edge), label)
        chosen = reshape(chosen, *found.det_scores.shape, edge, edge)
        return chosen.to(float32).sigmoid()

    def _heatmaps(self, features: Features, found: Detections) -> Tensor:
        """(B, K, N, M, M) logits of N keypoints."""
        assert self.keypoint_roi_pool is not None
        assert self.keypoint_head is not None
        assert self.keypoint_predictor is not None
        pooled = self.keypoint_roi_pool(features, found.det_boxes)
        heatmaps = self.keypoint_predictor(self.keypoint_head(pooled))
        return reshape(heatmaps, *found.det_scores.shape, *heatmaps.shape[1:]).to(float32)


def _probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes in float32 whatever the policy: scores of half precision would tie,
    and thresholds and the order of boxes depend on them."""
    wide = logits.to(float32)
    return wide.network.emit("softmax", "add_softmax", wide, dims=wide.shape, axes=1 << 1)
