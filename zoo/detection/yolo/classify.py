"""YOLOv8 for classification, under the parameters' names of public checkpoints.

There is no paper of it; its blocks are those of CSPNet (Wang et al.,
https://arxiv.org/abs/1911.11929). The first layers are those of YOLOv8; names and channels of what
follows are those that tensorrtx (https://github.com/wang-xinyu/tensorrtx, MIT) reads from
checkpoints, and none of its publisher's code is used. That the last convolution pads nothing, and
how images are prepared, is what tensorrtx's pull request 1551 states. Weights: AGPL-3.0 as their
publisher states, yours to obtain; none are shipped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trtnet import nn, ops
from trtnet.zoo.detection.yolo import v8
from trtnet.zoo.detection.yolo.blocks import Conv, fuse
from trtnet.zoo.detection.yolo.rows import Scale, features, layers
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

ROWS = v8.ROWS[:9]
WIDEST = 1024
"""The channels of the last of them, before scaling, in every size."""
HIDDEN = 1280
IMAGENET = 1000
EDGE = 224
PREPROCESSING = {"resize_size": [EDGE], "crop_size": [EDGE, EDGE], "channels": "rgb",
                 "scale": "1/255"}  # fmt: skip
"""How images become inputs of the published checkpoints: Pillow's bilinear resize of the shorter
edge, and the centre."""


class Classify(nn.Module):
    """Logits (B, classes) of features (B, C, H, W)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, HIDDEN)
        self.linear = nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(ops.mean(self.conv(x), (2, 3)))


class YOLOClassifier(nn.Module):
    """Input (B, 3, H, W), output the logits (B, classes)."""

    def __init__(self, scale: Scale, num_classes: int, fused: bool) -> None:
        super().__init__()
        made, widths = layers(ROWS, scale)
        self.model = nn.ModuleList([*made, Classify(widths[-1], num_classes)])
        if fused:
            fuse(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.model[-1](features(ROWS, self.model, images)[-1])


def told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of a builder that the names of a checkpoint tell: whether BatchNorms were folded.

    >>> told({"model.0.conv.bias": (16,)})
    {'fused': True}
    """
    return {"fused": True} if "model.0.conv.bias" in shapes else {}


def _twin(size: str, **arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.yolo.torch_tasks import YoloClassify  # imports torch

    return YoloClassify(size, **arguments)


def _register(size: str, scale: Scale) -> Callable[..., YOLOClassifier]:
    def builder(num_classes: int = IMAGENET, fused: bool = False) -> YOLOClassifier:
        return YOLOClassifier(scale, num_classes, fused)

    builder.__name__ = builder.__qualname__ = f"yolov8{size}_cls"
    builder.__module__ = __name__
    builder.__doc__ = f"""YOLOv8{size}-cls.

    Args:
        num_classes: ImageNet's by default.
        fused: whether the weights are those of a checkpoint whose BatchNorms were folded into
            convolutions. A file of weights says it by itself.
    """
    return register(input_shape=(3, EDGE, EDGE), twin=functools.partial(_twin, size),
                    preprocessing=PREPROCESSING, telling=told)(builder)  # fmt: skip


yolov8n_cls, yolov8s_cls, yolov8m_cls, yolov8l_cls, yolov8x_cls = (
    _register(size, scale._replace(most=WIDEST)) for size, scale in v8.SCALES.items()
)
