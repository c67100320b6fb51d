"""Mask R-CNN, in torchvision's form: a mask for each object.

He et al., Mask R-CNN, https://arxiv.org/abs/1703.06870; the second version as that of
:mod:`trtnet.zoo.detection.faster_rcnn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.detection.selection import Suppression
from trtnet.zoo.blocks import Conv2dNormActivation, NormLayer
from trtnet.zoo.detection.backbones import OUT_CHANNELS, resnet_fpn
from trtnet.zoo.detection.faster_rcnn import FasterRCNN, deep_box_head
from trtnet.zoo.detection.registering import register_detector, without_eps
from trtnet.zoo.detection.two_stage import RESNET, Proposing

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

POOLED = 14  # edge of the features of a box, half of a mask's
_LAYERS = (OUT_CHANNELS,) * 4


class MaskRCNNHeads(nn.Sequential):
    """3×3 convolutions with `layers` channels, as large as their input.

    Args:
        norm_layer: after each convolution.
    """

    def __init__(
        self, in_channels: int, layers: Sequence[int], norm_layer: NormLayer | None = None
    ) -> None:
        widths = pairwise((in_channels, *layers))
        super().__init__(*(Conv2dNormActivation(a, b, norm_layer=norm_layer) for a, b in widths))


class MaskRCNNPredictor(nn.Module):
    """Logits of a mask for each class, twice as large as the features."""

    def __init__(self, in_channels: int, dim_reduced: int, num_classes: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(in_channels, dim_reduced, 2, 2)
        self.relu = nn.ReLU()
        self.mask_fcn_logits = nn.Conv2d(dim_reduced, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mask_fcn_logits(self.relu(self.conv5_mask(x)))


def _mask_parts(num_classes: int, norm_layer: NormLayer | None = None) -> dict[str, Any]:
    """What Mask R-CNN has besides Faster R-CNN."""
    return {
        "mask_roi_pool": RESNET.pool(POOLED),
        "mask_head": MaskRCNNHeads(OUT_CHANNELS, _LAYERS, norm_layer),
        "mask_predictor": MaskRCNNPredictor(OUT_CHANNELS, OUT_CHANNELS, num_classes),
    }


@register_detector(pretrained=[without_eps("bf2d0c1e")])
def maskrcnn_resnet50_fpn(
    num_classes: int = 91,
    rpn_pre_nms_top_n_test: int = 1000,
    rpn_post_nms_top_n_test: int = 1000,
    rpn_nms_thresh: float = 0.7,
    rpn_score_thresh: float = 0.0,
    box_score_thresh: float = 0.05,
    box_nms_thresh: float = 0.5,
    box_detections_per_img: int = 100,
    box_topk_candidates: int | None = None,
    norm_eps: float = 1e-5,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> FasterRCNN:
    """Mask R-CNN on ResNet-50 (He et al., https://arxiv.org/abs/1703.06870). `norm_eps`, of the
    backbone's BatchNorm, is 0 with torchvision's weights ``COCO_V1``."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return FasterRCNN(resnet_fpn(norm_eps=norm_eps), RESNET, proposing, how, num_classes,
                      output_format, image_sizes, **_mask_parts(num_classes))  # fmt: skip


@register_detector()
def maskrcnn_resnet50_fpn_v2(
    num_classes: int = 91,
    rpn_pre_nms_top_n_test: int = 1000,
    rpn_post_nms_top_n_test: int = 1000,
    rpn_nms_thresh: float = 0.7,
    rpn_score_thresh: float = 0.0,
    box_score_thresh: float = 0.05,
    box_nms_thresh: float = 0.5,
    box_detections_per_img: int = 100,
    box_topk_candidates: int | None = None,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> FasterRCNN:
    """Mask R-CNN on ResNet-50, improved (Li et al., https://arxiv.org/abs/2111.11429)."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return FasterRCNN(resnet_fpn(norm_layer=nn.BatchNorm2d), RESNET, proposing, how, num_classes,
                      output_format, image_sizes, deep_box_head(), conv_depth=2,
                      **_mask_parts(num_classes, nn.BatchNorm2d))  # fmt: skip
