"""Faster R-CNN, in torchvision's form.

Ren et al., Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks,
https://arxiv.org/abs/1506.01497; the second version has the heads of Li et al., Benchmarking
Detection Transfer Learning with Vision Transformers, https://arxiv.org/abs/2111.11429.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.detection.selection import Suppression
from trtnet.nn import functional as F
from trtnet.ops.shape import flatten
from trtnet.zoo.blocks import Conv2dNormActivation, NormLayer
from trtnet.zoo.detection.backbones import (
    OUT_CHANNELS,
    BackboneWithFPN,
    mobilenet_v3_large_fpn,
    resnet_fpn,
)
from trtnet.zoo.detection.registering import ANY_SIZE, register_detector, without_eps
from trtnet.zoo.detection.two_stage import MOBILENET, RESNET, GeneralizedRCNN, Levels, Proposing

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

POOLED = 7  # edge of the features of a box
REPRESENTATION = 1024  # numbers that they become


class TwoMLPHead(nn.Module):
    """Two fully connected layers: (K, representation_size) from features of boxes.

    Args:
        in_channels: of the features with their height and width.
    """

    def __init__(self, in_channels: int, representation_size: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(in_channels, representation_size)
        self.fc7 = nn.Linear(representation_size, representation_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(flatten(x, 1)))))


class FastRCNNConvFCHead(nn.Sequential):
    """Convolutions, then fully connected layers: (K, channels of the last) from features of boxes.

    Args:
        input_size: of the features of a box, (C, H, W).
        conv_layers, fc_layers: channels of each.
        norm_layer: after each convolution.
    """

    def __init__(
        self,
        input_size: tuple[int, int, int],
        conv_layers: Sequence[int],
        fc_layers: Sequence[int],
        norm_layer: NormLayer | None = None,
    ) -> None:
        channels, height, width = input_size
        blocks: list[nn.Module] = []
        for wider in conv_layers:
            blocks.append(Conv2dNormActivation(channels, wider, norm_layer=norm_layer))
            channels = wider
        blocks.append(nn.Flatten())
        channels = channels * height * width
        for wider in fc_layers:
            blocks += [nn.Linear(channels, wider), nn.ReLU()]
            channels = wider
        super().__init__(*blocks)


class FastRCNNPredictor(nn.Module):
    """Logits of classes (K, num_classes), the background first, and codes of their boxes
    (K, num_classes · 4)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = flatten(x, 1)
        return self.cls_score(x), self.bbox_pred(x)


class FasterRCNN(GeneralizedRCNN):
    """Objects of `num_classes` classes, the background among them.

    Args:
        box_head: by default two fully connected layers.
        others: of :class:`GeneralizedRCNN`.
    """

    def __init__(
        self,
        backbone: BackboneWithFPN,
        levels: Levels,
        proposing: Proposing,
        how: Suppression,
        num_classes: int,
        output_format: str,
        image_sizes: bool,
        box_head: nn.Module | None = None,
        conv_depth: int = 1,
        **others: Any,
    ) -> None:
        head = box_head or TwoMLPHead(OUT_CHANNELS * POOLED**2, REPRESENTATION)
        predictor = FastRCNNPredictor(REPRESENTATION, num_classes)
        super().__init__(backbone, levels, proposing, how, head, predictor, output_format,
                         image_sizes, conv_depth, **others)  # fmt: skip


def deep_box_head() -> FastRCNNConvFCHead:
    """The box head of the second versions."""
    size = (OUT_CHANNELS, POOLED, POOLED)
    return FastRCNNConvFCHead(size, [OUT_CHANNELS] * 4, [REPRESENTATION], nn.BatchNorm2d)


def _on_mobilenet(
    proposing: Proposing, how: Suppression, num_classes: int, output_format: str, image_sizes: bool
) -> FasterRCNN:
    backbone = mobilenet_v3_large_fpn(norm_eps=1e-5)
    return FasterRCNN(backbone, MOBILENET, proposing, how, num_classes, output_format, image_sizes)


@register_detector(pretrained=[without_eps("258fb6c6")])
def fasterrcnn_resnet50_fpn(
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
    """Faster R-CNN on ResNet-50 (Ren et al., https://arxiv.org/abs/1506.01497). `norm_eps`, of the
    backbone's BatchNorm, is 0 with torchvision's weights ``COCO_V1``."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return FasterRCNN(resnet_fpn(norm_eps=norm_eps), RESNET, proposing, how, num_classes,
                      output_format, image_sizes)  # fmt: skip


@register_detector()
def fasterrcnn_resnet50_fpn_v2(
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
    """Faster R-CNN on ResNet-50, improved (Li et al., https://arxiv.org/abs/2111.11429)."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return FasterRCNN(resnet_fpn(norm_layer=nn.BatchNorm2d), RESNET, proposing, how, num_classes,
                      output_format, image_sizes, deep_box_head(), conv_depth=2)  # fmt: skip


@register_detector()
def fasterrcnn_mobilenet_v3_large_fpn(
    num_classes: int = 91,
    rpn_pre_nms_top_n_test: int = 1000,
    rpn_post_nms_top_n_test: int = 1000,
    rpn_nms_thresh: float = 0.7,
    rpn_score_thresh: float = 0.05,
    box_score_thresh: float = 0.05,
    box_nms_thresh: float = 0.5,
    box_detections_per_img: int = 100,
    box_topk_candidates: int | None = None,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> FasterRCNN:
    """Faster R-CNN on MobileNetV3-Large, for large images."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return _on_mobilenet(proposing, how, num_classes, output_format, image_sizes)


@register_detector((3, 320, 640), {**ANY_SIZE, "resize_size": [320], "max_size": 640})
def fasterrcnn_mobilenet_v3_large_320_fpn(
    num_classes: int = 91,
    rpn_pre_nms_top_n_test: int = 150,
    rpn_post_nms_top_n_test: int = 150,
    rpn_nms_thresh: float = 0.7,
    rpn_score_thresh: float = 0.05,
    box_score_thresh: float = 0.05,
    box_nms_thresh: float = 0.5,
    box_detections_per_img: int = 100,
    box_topk_candidates: int | None = None,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> FasterRCNN:
    """Faster R-CNN on MobileNetV3-Large, for images with edges of 320 pixels."""
    proposing = Proposing(rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test, rpn_nms_thresh,
                          rpn_score_thresh)  # fmt: skip
    how = Suppression(box_nms_thresh, box_score_thresh, box_detections_per_img,
                      candidates=box_topk_candidates)  # fmt: skip
    return _on_mobilenet(proposing, how, num_classes, output_format, image_sizes)
