"""Detectors for ``tools/verify_detectors.py``: their sizes, and heads that find something, which
``tools/detector_heads.py`` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        other_size: (height, width) of the image that is compared alone, where the network takes
            another size than `settled`.
        twin: the file that has the PyTorch model to compare with, where torchvision has none: it is
            ours, written apart from the network, unless it is transformers'.
        transformers: whether `twin` has transformers' own model.
        heads: how the names of its heads' modules begin.
    """

    seed_heads: SeedHeads
    edges: tuple[int, int] | None = (160, 256)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settled: tuple[int, int, int] = (3, 160, 192)
    other_size: tuple[int, int] | None = None
    twin: str | None = None
    transformers: bool = False
    heads: tuple[str, ...] = ("head", "roi_heads", "rpn", "arm", "odm")

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


def _letterboxed(seed_heads: SeedHeads, twin: str, *names: str, **arguments: Any) -> Case:
    """A YOLO. `names`: see :attr:`Case.heads`."""
    chosen = {"score_thresh": 0.15, "detections_per_img": 300, **arguments}
    return Case(seed_heads, None, chosen, (3, 192, 192), (128, 224), f"zoo/detection/{twin}.py",
                heads=names or ("head",))  # fmt: skip


_V9, _V7 = "22.heads", "105.heads"
_TWO_STAGE = ("model.enc_", "model.decoder.class_embed", "model.decoder.bbox_embed",
              "model.decoder.pre_bbox_head", "model.decoder.lqe_layers")  # fmt: skip


def _detr(seed_heads: SeedHeads, twin: str, *names: str, **arguments: Any) -> Case:
    return Case(seed_heads, None, {"score_thresh": 0.15, **arguments}, (3, 192, 192), (128, 224),
                f"zoo/detection/detr/{twin}.py", True, names)  # fmt: skip


def _two_stage(twin: str) -> Case:
    return _detr(heads.two_stage, twin, *_TWO_STAGE, num_queries=60, detections_per_img=200)


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
    **{f"yolox_{size}": _letterboxed(heads.yolox, "torch_yolox")
       for size in ("nano", "tiny", "s", "m", "l", "x", "shapes")},
    **{f"{line}{size}": _letterboxed(heads.yolo, "yolo/torch_yolo", head)
       for line, head in (("yolov8", "model.22"), ("yolo11", "model.23"), ("yolo26", "model.23"))
       for size in "nsmlx"},
    **{f"yolov9{size}": _letterboxed(heads.yolov9, "yolo/torch_v9", _V9) for size in "tsmc"},
    "yolov7": _letterboxed(heads.yolov7, "yolo/torch_v7", _V7),
    "yolov3": _letterboxed(heads.darknet, "torch_darknet", "layers.81", "layers.82", "layers.93",
                           "layers.94", "layers.105", "layers.106"),
    "yolov3_tiny": _letterboxed(heads.darknet, "torch_darknet", "layers.15", "layers.16",
                                "layers.22", "layers.23"),
    "yolov4": _letterboxed(heads.darknet, "torch_darknet", "layers.138", "layers.139",
                           "layers.149", "layers.150", "layers.160", "layers.161"),
    "yolov4_tiny": _letterboxed(heads.darknet, "torch_darknet", "layers.29", "layers.30",
                                "layers.36", "layers.37"),
    "detr_resnet50": _detr(heads.detr, "torch_detr", "class_labels_classifier", "bbox_predictor"),
    **{f"rtdetr_{size}": _two_stage("torch_rt_detr")
       for size in ("shapes", "r18", "r34", "r50", "r101")},
    **{f"rtdetr_v2_{size}": _two_stage("torch_rt_detr")
       for size in ("r18", "r34", "r50m", "r50", "r101")},
    **{f"dfine_{size}": _two_stage("torch_d_fine") for size in "nsmlx"},
}  # fmt: skip
"""By name of the model."""
