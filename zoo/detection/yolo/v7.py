"""YOLOv7, under the parameters' names of the authors' release MultimediaTechLab/YOLO.

Wang et al., https://arxiv.org/abs/2207.02696. The layers are those of ``v7.yaml`` and ``module.py``
of that release: pools of 5, 9 and 13 cells follow each other, and the neck takes the fine features
before the convolution that merges them. Code and weights: MIT, as its authors state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.detection import Suppression
from trtnet.zoo.detection.yolo.anchor_head import AnchorDetection
from trtnet.zoo.detection.yolo.blocks import Concat, Conv
from trtnet.zoo.detection.yolo.elan import RepConv, SPPCSPConv
from trtnet.zoo.detection.yolo.model import Choice, ListedYOLO
from trtnet.zoo.detection.yolo.registering import COCO, EDGE, LISTED_PREPROCESSING
from trtnet.zoo.detection.yolo.rows import Row, double, down
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

LEVELS = (102, 103, 104)
_FINE, _MIDDLE, _TOP = 23, 37, 51  # layers whose features the neck takes again
_CLASSES = "105.heads.0.head_conv.bias"
_ANCHORS = 3


def _conv(channels: int, kernel: int = 1, source: int = -1) -> Row:
    def make(in_channels: int, out_channels: int, _: int) -> nn.Module:
        return Conv(in_channels, out_channels, kernel)

    return Row(make, channels, inputs=(source,))


def _join(*inputs: int) -> Row:
    return Row(lambda *_: Concat(), inputs=inputs)


def _block(channels: int, inner: int, out_channels: int, joined: Sequence[int]) -> list[Row]:
    """Two 1×1 convolutions of the same features, four 3×3 ones behind the second, and one of those
    that are `joined`."""
    return [_conv(channels), _conv(channels, source=-2), *(_conv(inner, 3) for _ in range(4)),
            _join(*joined), _conv(out_channels)]  # fmt: skip


def _halving(channels: int, *others: int) -> list[Row]:
    """Halves height and width: by the largest values, and by a convolution."""
    return [
        Row(lambda *_: nn.MaxPool2d(2)), _conv(channels),
        _conv(channels, source=-3), Row(down, channels), _join(-1, -3, *others),
    ]  # fmt: skip


def _doubling(channels: int, other: int) -> list[Row]:
    return [_conv(channels), Row(double), _conv(channels, source=other), _join(-1, -2)]


def _rows() -> list[Row]:
    every_other, each = (-1, -3, -5, -6), (-1, -2, -3, -4, -5, -6)
    rows = [_conv(32, 3), Row(down, 64), _conv(64, 3), Row(down, 128)]
    rows += _block(64, 64, 256, every_other) + _halving(128)
    rows += _block(128, 128, 512, every_other) + _halving(256)
    rows += _block(256, 256, 1024, every_other) + _halving(512)
    rows += _block(256, 256, 1024, every_other)
    rows.append(Row(lambda in_channels, channels, _: SPPCSPConv(in_channels, channels), 512))
    rows += _doubling(256, _MIDDLE) + _block(256, 128, 256, each)
    middle = len(rows) - 1
    rows += _doubling(128, _FINE) + _block(128, 64, 128, each)
    outputs = [len(rows) - 1]
    for channels, other in ((128, middle), (256, _TOP)):
        rows += _halving(channels, other) + _block(2 * channels, channels, 2 * channels, each)
        outputs.append(len(rows) - 1)
    for channels, source in zip((256, 512, 1024), outputs, strict=True):
        rows.append(Row(lambda count, out, _: RepConv(count, out), channels, inputs=(source,)))
    return rows


def told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The number of classes, of a checkpoint.

    >>> told({"105.heads.0.head_conv.bias": (27,)})
    {'num_classes': 4}
    """
    shape = shapes.get(_CLASSES, ())
    return {"num_classes": shape[0] // _ANCHORS - 5} if shape else {}


def _twin(**arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.yolo.torch_v7 import YOLOv7  # imports torch

    return YOLOv7(**arguments)


@register(input_shape=(3, EDGE, EDGE), twin=_twin, task="detection",
          preprocessing=LISTED_PREPROCESSING, telling=told)  # fmt: skip
def yolov7(
    num_classes: int = COCO,
    score_thresh: float = 0.01,
    nms_thresh: float = 0.7,
    detections_per_img: int = 300,
    topk_candidates: int = 1000,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> ListedYOLO:
    """YOLOv7, of the base size.

    Args:
        num_classes: without a background.
        score_thresh: boxes with no higher score are dropped.
        nms_thresh: of two boxes of a class that overlap by more, the worse is dropped.
        detections_per_img: how many an image has at most.
        topk_candidates: how many boxes of an image take part in suppression.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """

    def head(channels: Sequence[int]) -> AnchorDetection:
        return AnchorDetection(num_classes, channels)

    how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
    choice = Choice(how, output_format, image_sizes)
    return ListedYOLO(_rows(), LEVELS, head, choice)
