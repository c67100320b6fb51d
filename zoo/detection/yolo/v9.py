"""YOLOv9, under the parameters' names of the authors' release MultimediaTechLab/YOLO.

Wang et al., https://arxiv.org/abs/2402.13616. Code and weights of that release: MIT, as its authors
state. Names unconfirmed: those of the auxiliary branch of m and c.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trtnet.detection import Suppression
from trtnet.zoo.detection.yolo.elan import ELAN, SPPELAN, AConv, ADown
from trtnet.zoo.detection.yolo.grouped_head import MultiheadDetection
from trtnet.zoo.detection.yolo.heads import class_width
from trtnet.zoo.detection.yolo.model import Choice, ListedYOLO
from trtnet.zoo.detection.yolo.registering import COCO, EDGE, LISTED_PREPROCESSING
from trtnet.zoo.detection.yolo.rows import Make, Row, concat, double, down
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet import nn

LEVELS = (15, 18, 21)
AUXILIARY = (29, 26, 23)
_CLASSES = "22.heads.0.class_conv.2.weight"
_WIDTH = "22.heads.0.class_conv.0.conv.weight"
_AUXILIARY_KEY = "30.heads.0.class_conv.2.weight"


class Sizes(NamedTuple):
    """Channels of a model.

    Attributes:
        stem: of the first two convolutions.
        first: of the first block, and of its parts.
        stages: of three stages: after halving, of the block, and of its parts.
        fine: of the features at an eighth of the image's edges.
        downs: of the two layers that halve them again.
        bottlenecks: of a block.
        plain: whether the first block has none.
        halving: what halves features.
    """

    stem: tuple[int, int]
    first: tuple[int, int]
    stages: tuple[tuple[int, int, int], ...]
    fine: int
    downs: tuple[int, int]
    bottlenecks: int = 1
    plain: bool = False
    halving: type[AConv] | type[ADown] = AConv


SIZES = {
    "t": Sizes((16, 32), (32, 32), ((64, 64, 64), (96, 96, 96), (128, 128, 128)), 64, (48, 64), 3,
               True),
    "s": Sizes((32, 64), (64, 64), ((128, 128, 128), (192, 192, 192), (256, 256, 256)), 128,
               (96, 128), 3, True),
    "m": Sizes((32, 64), (128, 128), ((240, 240, 240), (360, 360, 360), (480, 480, 480)), 240,
               (184, 240)),
    "c": Sizes((64, 128), (256, 128), ((256, 512, 256), (512, 512, 512), (512, 512, 512)), 256,
               (256, 512), halving=ADown),
}  # fmt: skip


def _elan(part: int, count: int) -> Make:
    def make(in_channels: int, out_channels: int, _: int) -> nn.Module:
        return ELAN(in_channels, out_channels, part, count)

    return make


def _rows(sizes: Sizes) -> list[Row]:
    def halving(in_channels: int, out_channels: int, _: int) -> nn.Module:
        return sizes.halving(in_channels, out_channels)

    channels, part = sizes.first
    rows = [Row(down, count) for count in sizes.stem]
    rows.append(Row(_elan(part, 0 if sizes.plain else sizes.bottlenecks), channels))
    for before, channels, part in sizes.stages:
        rows += [Row(halving, before), Row(_elan(part, sizes.bottlenecks), channels)]
    middle, large = sizes.stages[1][1], sizes.stages[2][1]
    rows += _upwards(sizes, -1)
    rows += [
        Row(halving, sizes.downs[0]),
        concat(12),
        Row(_elan(middle, sizes.bottlenecks), middle),
    ]
    rows += [Row(halving, sizes.downs[1]), concat(9), Row(_elan(large, sizes.bottlenecks), large)]
    return rows


def _upwards(sizes: Sizes, first: int) -> list[Row]:
    """From the smallest features, the layer `first`, to the largest."""
    middle, large, fine = sizes.stages[1][1], sizes.stages[2][1], sizes.fine
    return [
        Row(lambda in_channels, out_channels, _: SPPELAN(in_channels, out_channels), large,
            inputs=(first,)),
        Row(double), concat(6), Row(_elan(middle, sizes.bottlenecks), middle),
        Row(double), concat(4), Row(_elan(fine, sizes.bottlenecks), fine),
    ]  # fmt: skip


def told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of a builder that the names and shapes of a checkpoint tell.

    >>> told({"22.heads.0.class_conv.2.weight": (4, 64, 1, 1)})
    {'num_classes': 4}
    """
    keys = {"num_classes": _CLASSES, "class_channels": _WIDTH}
    found: dict[str, Any] = {name: shapes[key][0] for name, key in keys.items() if shapes.get(key)}
    return {**found, "auxiliary": True} if _AUXILIARY_KEY in shapes else found


def _twin(size: str, **arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.yolo.torch_v9 import YOLOv9  # imports torch

    return YOLOv9(size, **arguments)


def _model(size: str) -> Callable[..., ListedYOLO]:
    def builder(
        num_classes: int = COCO,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        class_channels: int | None = None,
        auxiliary: bool = False,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> ListedYOLO:
        def head(channels: Sequence[int]) -> MultiheadDetection:
            width = class_channels or class_width(num_classes, channels[0])
            return MultiheadDetection(num_classes, channels, width)

        how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
        choice = Choice(how, output_format, image_sizes)
        branch = (_upwards(SIZES[size], 8), AUXILIARY) if auxiliary else ()
        return ListedYOLO(_rows(SIZES[size]), LEVELS, head, choice, *branch)

    builder.__name__ = builder.__qualname__ = f"yolov9{size}"
    builder.__doc__ = f"""YOLOv9-{size.upper()}.

    Args:
        num_classes: without a background.
        score_thresh: boxes with no higher score are dropped.
        nms_thresh: of two boxes of a class that overlap by more, the worse is dropped.
        detections_per_img: how many an image has at most.
        topk_candidates: how many boxes of an image take part in suppression.
        class_channels: inside of the branches of the classes; by default those of the published
            numbers of parameters. A file of weights says them by itself.
        auxiliary: whether the weights have the branch that only training runs. A file of weights
            says it by itself.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    return register(input_shape=(3, EDGE, EDGE), twin=functools.partial(_twin, size),
                    task="detection", preprocessing=LISTED_PREPROCESSING, telling=told,
                    )(builder)  # fmt: skip


yolov9t, yolov9s, yolov9m, yolov9c = (_model(size) for size in SIZES)
