"""Detectors for ``tools/verify_detectors.py``: their sizes, and heads that find something, which
``tools/detector_heads.py`` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import detector_heads as heads
import torch

LEAST_IOU, MOST_SCORE, GAP = 0.999, 1e-4, 1e-3  # of matched boxes; between distinct scores
THIN = 1.0  # pixels: clipping leaves boxes thinner than that, whose overlap says nothing
NEAR = 1e-3  # pixels, of the corners of such boxes

SeedHeads = Callable[[Any, torch.Tensor], None]
"""Changes the last layers of a PyTorch detector; gets prepared images, (N, 3, H, W)."""


@dataclass(frozen=True)
class Case:
    """How a detector is compared.

    Attributes:
        seed_heads: see :data:`SeedHeads`. Gets the PyTorch counterpart of the zoo.
        edges: `min_size` and `max_size` of the preparation, smaller than torchvision's; ``None``
            for a model of one size.
        arguments: of both builders.
        settled: (C, H, W) of the images that settle its BatchNorms and heads; of a model whose
            images become one size, also that size.
        twin: what to compare with where torchvision has no such model: the file of a PyTorch model
            of ours, written apart from the network, or the package that has one.
        heads: how the names of its heads' modules begin.
        other_size: (height, width) of the image that is compared alone, where the network takes
            another size than `settled`.
    """

    seed_heads: SeedHeads
    edges: tuple[int, int] | None = (160, 256)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settled: tuple[int, int, int] = (3, 160, 192)
    twin: str | None = None
    heads: tuple[str, ...] = ("head", "roi_heads", "rpn", "arm", "odm")
    other_size: tuple[int, int] | None = None

    @property
    def transform_arguments(self) -> dict[str, int]:
        """What torchvision's builder needs to prepare images in these sizes."""
        return dict(zip(("min_size", "max_size"), self.edges, strict=True)) if self.edges else {}


_FEW = {
    "num_classes": 11,
    "rpn_pre_nms_top_n_test": 200,
    "rpn_post_nms_top_n_test": 100,
    "box_detections_per_img": 40,
}


def _of_one_size(edge: int) -> Case:
    return Case(heads.ssd, None, {"score_thresh": 0.05}, (3, edge, edge))


_SIZE, _OTHER = (3, 192, 192), (128, 224)  # multiples of 32


def _yolo(seed_heads: SeedHeads, twin: str, *names: str, **arguments: Any) -> Case:
    """`names`: see :attr:`Case.heads`."""
    arguments = {"score_thresh": 0.15, "detections_per_img": 300, **arguments}
    return Case(seed_heads, None, arguments, _SIZE, f"zoo/detection/{twin}.py", names, _OTHER)


def _detr(seed_heads: SeedHeads, *names: str, **arguments: Any) -> Case:
    """The same for the DETR line."""
    chosen = {"score_thresh": 0.15, **arguments}
    return Case(seed_heads, None, chosen, _SIZE, "transformers", names, _OTHER)


def _rf_detr(edge: int, other: int) -> Case:
    """Images are squares."""
    case = _detr(heads.rf_detr, "model.enc_out", "class_embed", "bbox_embed", num_queries=60)
    return replace(case, settled=(3, edge, edge), other_size=(other, other))


def _darknet(*layers: int) -> Case:
    """`layers`: the numbers of ``[yolo]``, each of which follows a convolution."""
    names = (f"layers.{number}" for layer in layers for number in (layer - 1, layer))
    return _yolo(heads.darknet, "torch_darknet", *names)


_TWO_STAGE = _detr(
    heads.two_stage, "model.enc_", "model.decoder.class_embed", "model.decoder.bbox_embed",
    "model.decoder.pre_bbox_head", "model.decoder.lqe_layers",
    num_queries=60, detections_per_img=200,
)  # fmt: skip
"""RT-DETR and D-FINE."""

CASES = {
    "ssd300_vgg16": _of_one_size(300),
    "ssdlite320_mobilenet_v3_large": _of_one_size(320),
    "retinanet_resnet50_fpn": Case(heads.retinanet),
    "retinanet_resnet50_fpn_v2": Case(heads.retinanet),
    "fcos_resnet50_fpn": Case(heads.fcos),
    "fasterrcnn_resnet50_fpn": Case(heads.rcnn, arguments=_FEW),
    "fasterrcnn_resnet50_fpn_v2": Case(heads.rcnn, arguments=_FEW),
    "fasterrcnn_mobilenet_v3_large_fpn": Case(heads.rcnn, arguments=_FEW),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Case(heads.rcnn, arguments=_FEW),
    "maskrcnn_resnet50_fpn": Case(heads.rcnn, arguments=_FEW),
    "maskrcnn_resnet50_fpn_v2": Case(heads.rcnn, arguments=_FEW),
    "keypointrcnn_resnet50_fpn": Case(heads.rcnn, arguments=_FEW),
    "refinedet320_vgg16": Case(heads.refinedet, None, {"score_thresh": 0.05}, (3, 320, 320),
                               twin="zoo/detection/torch_refinedet.py"),
    **{f"yolox_{size}": _yolo(heads.yolox, "torch_yolox", "head")
       for size in ("nano", "tiny", "s", "m", "l", "x", "shapes")},
    **{f"{line}{size}": _yolo(heads.yolo, "yolo/torch_yolo", head)
       for line, head in (("yolov8", "model.22"), ("yolo11", "model.23"), ("yolo26", "model.23"))
       for size in "nsmlx"},
    **{f"yolov8{size}_seg": _yolo(heads.yolo, "yolo/torch_tasks", "model.22") for size in "nsmlx"},
    **{f"yolov8{size}_pose": _yolo(heads.yolo, "yolo/torch_tasks", "model.22", num_classes=80)
       for size in "nsmlx"},
    **{f"yolov9{size}": _yolo(heads.yolov9, "yolo/torch_v9", "22.heads") for size in "tsmc"},
    "yolov7": _yolo(heads.yolov7, "yolo/torch_v7", "105.heads"),
    "yolov3": _darknet(82, 94, 106),
    "yolov3_tiny": _darknet(16, 23),
    "yolov4": _darknet(139, 150, 161),
    "yolov4_tiny": _darknet(30, 37),
    "detr_resnet50": _detr(heads.detr, "class_labels_classifier", "bbox_predictor"),
    **{f"rtdetr_{size}": _TWO_STAGE for size in ("shapes", "r18", "r34", "r50", "r101")},
    **{f"rtdetr_v2_{size}": _TWO_STAGE for size in ("r18", "r34", "r50m", "r50", "r101")},
    **{f"dfine_{size}": _TWO_STAGE for size in "nsmlx"},
    **{f"rfdetr_{size}": _rf_detr(192, 160) for size in "nsml"},
    "rfdetr_base": _rf_detr(224, 168),
}  # fmt: skip
"""By name of the model."""
