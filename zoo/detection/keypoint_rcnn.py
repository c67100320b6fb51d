"""Keypoint R-CNN, in torchvision's form: the joints of each person.

He et al., Mask R-CNN, https://arxiv.org/abs/1703.06870, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.detection.selection import Suppression
from trtnet.nn import functional as F
from trtnet.zoo.detection.backbones import OUT_CHANNELS, resnet_fpn
from trtnet.zoo.detection.faster_rcnn import FasterRCNN
from trtnet.zoo.detection.registering import register_detector, without_eps
from trtnet.zoo.detection.two_stage import RESNET, Proposing
from trtnet.zoo.pretrained import Pretrained

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

POOLED = 14  # edge of the features of a box, a quarter of a heatmap's
_LAYERS = (512,) * 8


class KeypointRCNNHeads(nn.Sequential):
    """3×3 convolutions with `layers` channels, as large as their input."""

    def __init__(self, in_channels: int, layers: Sequence[int]) -> None:
        blocks: list[nn.Module] = []
        for channels in layers:
            blocks += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU()]
            in_channels = channels
        super().__init__(*blocks)


class KeypointRCNNPredictor(nn.Module):
    """A heatmap of logits for each keypoint, four times as large as the features."""

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.kps_score_lowres = nn.ConvTranspose2d(in_channels, num_keypoints, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.kps_score_lowres(x)
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _keypoint_parts(num_keypoints: int) -> dict[str, Any]:
    """What Keypoint R-CNN has besides Faster R-CNN."""
    return {
        "keypoint_roi_pool": RESNET.pool(POOLED),
        "keypoint_head": KeypointRCNNHeads(OUT_CHANNELS, _LAYERS),
        "keypoint_predictor": KeypointRCNNPredictor(_LAYERS[-1], num_keypoints),
    }


@register_detector(
    pretrained=[without_eps("fc266e95"), Pretrained("COCO_LEGACY", "9f466800", {"norm_eps": 1e-5})]
)
def keypointrcnn_resnet50_fpn(
    num_classes: int = 2,
    num_keypoints: int = 17,
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
    """Keypoint R-CNN on ResNet-50 (He et al., https://arxiv.org/abs/1703.06870). `norm_eps`, of the
    backbone's BatchNorm, is 0 with torchvision's weights ``COCO_V1``."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return FasterRCNN(resnet_fpn(norm_eps=norm_eps), RESNET, proposing, how, num_classes,
                      output_format, image_sizes, **_keypoint_parts(num_keypoints))  # fmt: skip
