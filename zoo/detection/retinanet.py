"""RetinaNet, in torchvision's form.

Lin et al., Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002. The second
version has GroupNorm in its heads and a sixth level computed from the backbone's features, as Zhang
et al. found better, https://arxiv.org/abs/1912.02424.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.detection import AnchorGenerator, Suppression
from trtnet.ops import cat
from trtnet.zoo.blocks import Conv2dNormActivation, NormLayer
from trtnet.zoo.detection.backbones import OUT_CHANNELS, resnet_fpn
from trtnet.zoo.detection.feature_pyramid import LastLevelP6P7
from trtnet.zoo.detection.model import Detector, HeadOutputs, rows
from trtnet.zoo.detection.registering import register_detector, without_eps

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_SIDES = tuple(
    (x, int(x * 2 ** (1.0 / 3)), int(x * 2 ** (2.0 / 3))) for x in (32, 64, 128, 256, 512)
)
_RATIOS = ((0.5, 1.0, 2.0),) * len(_SIDES)
_ANCHORS = 9  # of each cell
_DEPTH = 4  # convolutions before the last
_group_norm = partial(nn.GroupNorm, 32)


class _Tower(nn.Module):
    """Four convolutions, and a last one called `last`, on features of each size."""

    last: str

    def __init__(self, columns: int, norm_layer: NormLayer | None) -> None:
        super().__init__()
        self.columns = columns
        channels = OUT_CHANNELS
        self.conv = nn.Sequential(
            *(Conv2dNormActivation(channels, channels, norm_layer=norm_layer)
              for _ in range(_DEPTH))
        )  # fmt: skip
        self.add_module(self.last, nn.Conv2d(channels, _ANCHORS * columns, 3, padding=1))

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        last = getattr(self, self.last)
        return cat([rows(last(self.conv(features)), self.columns) for features in x], 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Renames the keys of files from before torchvision 0.13, as torchvision does."""
        for index in range(_DEPTH):
            for kind in ("weight", "bias"):
                old = f"{prefix}conv.{2 * index}.{kind}"
                if old in state_dict:
                    state_dict[f"{prefix}conv.{index}.0.{kind}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *others)


class RetinaNetClassificationHead(_Tower):
    """Logits of `columns` classes for each anchor."""

    last = "cls_logits"


class RetinaNetRegressionHead(_Tower):
    """Shifts of each anchor."""

    last = "bbox_reg"


class RetinaNetHead(nn.Module):
    """Returns logits of classes and shifts of anchors."""

    def __init__(self, num_classes: int, norm_layer: NormLayer | None = None) -> None:
        super().__init__()
        self.classification_head = RetinaNetClassificationHead(num_classes, norm_layer)
        self.regression_head = RetinaNetRegressionHead(4, norm_layer)

    def forward(self, x: Sequence[Tensor]) -> HeadOutputs:
        return {
            "cls_logits": self.classification_head(x),
            "bbox_regression": self.regression_head(x),
        }


def _retinanet(
    p6_channels: int,
    norm_layer: NormLayer | None,
    norm_eps: float,
    num_classes: int,
    score_thresh: float,
    nms_thresh: float,
    detections_per_img: int,
    topk_candidates: int,
    output_format: str,
    image_sizes: bool,
) -> Detector:
    extra = LastLevelP6P7(p6_channels, OUT_CHANNELS)
    return Detector(
        resnet_fpn(returned_layers=(2, 3, 4), extra_blocks=extra, norm_eps=norm_eps),
        AnchorGenerator(_SIDES, _RATIOS),
        RetinaNetHead(num_classes, norm_layer),
        Suppression(nms_thresh, score_thresh, detections_per_img, images="one by one"),
        topk_candidates,
        output_format,
        image_sizes,
    )


@register_detector(pretrained=[without_eps("eeacb38b")])
def retinanet_resnet50_fpn(
    num_classes: int = 91,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 300,
    topk_candidates: int = 1000,
    norm_eps: float = 1e-5,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> Detector:
    """RetinaNet on ResNet-50 (Lin et al., https://arxiv.org/abs/1708.02002). `norm_eps`, of the
    backbone's BatchNorm, is 0 with torchvision's weights ``COCO_V1``."""
    return _retinanet(256, None, norm_eps, num_classes, score_thresh, nms_thresh,
                      detections_per_img, topk_candidates, output_format, image_sizes)  # fmt: skip


@register_detector()
def retinanet_resnet50_fpn_v2(
    num_classes: int = 91,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    detections_per_img: int = 300,
    topk_candidates: int = 1000,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> Detector:
    """RetinaNet on ResNet-50, improved (Zhang et al., https://arxiv.org/abs/1912.02424)."""
    return _retinanet(2048, _group_norm, 1e-5, num_classes, score_thresh, nms_thresh,
                      detections_per_img, topk_candidates, output_format, image_sizes)  # fmt: skip
