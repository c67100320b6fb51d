"""Detectors for ``tools/verify_detectors.py``: their sizes, and heads that find something.

Heads as they are initialised give hardly any box, and equal scores. Here the last layers are scaled
so that each of their channels has a chosen mean and deviation on seeded images: some hundred pairs
of a box and a class come above the threshold, with scores that differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

LEAST_IOU, MOST_SCORE, GAP = 0.999, 1e-4, 1e-3  # of matched boxes; between distinct scores
THIN = 1.0  # pixels: clipping leaves boxes thinner than that, whose overlap says nothing
NEAR = 1e-3  # pixels, of the corners of such boxes
RARE = 3.2  # deviations from the mean at which a class comes above the threshold

SeedHeads = Callable[[Any, torch.Tensor], None]
"""Changes the last layers of one of torchvision's detectors; gets prepared images, (N, 3, H, W)."""


@dataclass(frozen=True)
class Case:
    """How a detector is compared.

    Attributes:
        seed_heads: see :data:`SeedHeads`. Gets the PyTorch counterpart of the zoo.
        edges: `min_size` and `max_size` of the preparation, smaller than torchvision's; ``None``
            for a model of one size.
        arguments: of both builders.
        settled: (C, H, W) of the images that settle its BatchNorms and heads; of a model with a
            letterbox also its size.
        twin: what to compare with where torchvision has no such model: the file of a PyTorch model
            of ours, written apart from the network, or the package that has one.
        heads: how the names of its heads' modules begin.
    """

    seed_heads: SeedHeads
    edges: tuple[int, int] | None = (160, 256)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settled: tuple[int, int, int] = (3, 160, 192)
    twin: str | None = None
    heads: tuple[str, ...] = ("head", "roi_heads", "rpn", "arm", "odm")

    @property
    def transform_arguments(self) -> dict[str, int]:
        """What torchvision's builder needs to prepare images in these sizes."""
        return dict(zip(("min_size", "max_size"), self.edges, strict=True)) if self.edges else {}


def settle_channels(
    model: Any, images: torch.Tensor, layers: Sequence[Any], mean: Any, deviation: float
) -> None:
    """Scales each of `layers`, convolutions or linear layers with a bias, so that its outputs have
    these statistics when `model` is called with `images`, channel by channel; of a layer that is
    called several times, over all calls. A linear layer's channels are its last axis.

    Args:
        mean: a number, or a function of the number of channels that gives one for each.
    """
    seen: dict[Any, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
        channels = -1 if isinstance(layer, nn.Linear) else 1
        seen[layer].append(output.detach().movedim(channels, 0).flatten(1))

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        model(images)
        for layer, parts in seen.items():
            values = torch.cat(parts, 1)
            scale = deviation / values.std(1).clamp_min(1e-4)
            wanted = mean(len(values)) if callable(mean) else mean
            shift = wanted - values.mean(1) * scale
            layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(scale).add_(shift)
    for hook in hooks:
        hook.remove()


def settle_transposed(model: Any, images: torch.Tensor, layer: Any, deviation: float) -> None:
    """Scales a transposed convolution so that its outputs have the mean 0 and this deviation, all
    channels together: its weight has the channels on its second axis."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        model(images)
        scale = deviation / seen[0].std()
        layer.weight.mul_(scale)
        layer.bias.sub_(seen[0].mean()).mul_(scale)
    hook.remove()


def logit(score: float) -> float:
    """The number whose sigmoid is `score`."""
    return math.log(score / (1 - score))


def _retinanet(model: Any, images: torch.Tensor) -> None:
    head = model.head
    rare = logit(0.05) - 1.5 * RARE
    settle_channels(model, images, [head.classification_head.cls_logits], rare, 1.5)
    settle_channels(model, images, [head.regression_head.bbox_reg], 0.0, 0.3)


def _fcos(model: Any, images: torch.Tensor) -> None:
    head = model.head
    rare = logit(0.06) - 1.5 * RARE
    settle_channels(model, images, [head.classification_head.cls_logits], rare, 1.5)
    settle_channels(model, images, [head.regression_head.bbox_reg], 2.0, 1.0)
    settle_channels(model, images, [head.regression_head.bbox_ctrness], 1.0, 1.0)


def _ssd(model: Any, images: torch.Tensor) -> None:
    head, threshold, classes = model.head, 0.05, model.head.classification_head.num_columns
    background = 2.0 * RARE - math.log(threshold)

    def mean(channels: int) -> torch.Tensor:
        means = torch.zeros(channels // classes, classes)
        means[:, 0] = background
        return means.flatten()

    for part, wanted, deviation in (
        (head.classification_head, mean, 2.0),
        (head.regression_head, 0.0, 2.0),
    ):
        last = [block if isinstance(block, nn.Conv2d) else block[-1] for block in part.module_list]
        settle_channels(model, images, last, wanted, deviation)


def _rcnn(model: Any, images: torch.Tensor) -> None:
    rpn, heads = model.rpn, model.roi_heads
    settle_channels(model, images, [rpn.head.cls_logits], 0.0, 1.5)
    settle_channels(model, images, [rpn.head.bbox_pred], 0.0, 0.2)
    classes = heads.box_predictor.cls_score.out_features

    def likely_background(channels: int) -> torch.Tensor:
        means = torch.zeros(channels)
        means[0] = math.log(classes - 1)
        return means

    settle_channels(model, images, [heads.box_predictor.cls_score], likely_background, 2.0)
    settle_channels(model, images, [heads.box_predictor.bbox_pred], 0.0, 0.7)
    model.output_format = "efficientnms"  # only detections reach these heads
    if heads.has_mask():
        settle_channels(model, images, [heads.mask_predictor.mask_fcn_logits], 0.0, 2.0)
    if heads.has_keypoint():
        layer = heads.keypoint_predictor.kps_score_lowres
        settle_transposed(model, images, layer, 2.0)
    model.output_format = "raw"


def _refinedet(model: Any, images: torch.Tensor) -> None:
    classes = model.odm.conf[0].out_channels // 3

    def likely_background(channels: int) -> torch.Tensor:
        means = torch.zeros(channels // classes, classes)
        means[:, 0] = 2.0 * RARE - math.log(0.05)
        return means.flatten()

    for layers, wanted, deviation in ((model.arm.conf, 0.0, 1.5), (model.arm.loc, 0.0, 1.0),
                                      (model.odm.conf, likely_background, 2.0),
                                      (model.odm.loc, 0.0, 1.0)):  # fmt: skip
        settle_channels(model, images, [*layers], wanted, deviation)


def _yolox(model: Any, images: torch.Tensor) -> None:
    """Input are levels of 0 to 255, which noise does not settle."""
    head = model.head
    _settle_norms(model, images)
    settle_channels(model, images, [*head.cls_preds], logit(0.1), 1.5)
    settle_channels(model, images, [*head.obj_preds], logit(0.05), 2.0)
    settle_channels(model, images, [*head.reg_preds], 0.5, 0.5)


def _yolo(model: Any, images: torch.Tensor) -> None:
    """The head whose boxes are given."""
    _settle_norms(model, images)
    head = model.model[-1]
    classes, boxes = (getattr(head, f"{head.prefix}{branch}") for branch in ("cv3", "cv2"))
    settle_channels(model, images, [branch[-1] for branch in classes], logit(0.01), 1.0)
    settle_channels(model, images, [branch[-1] for branch in boxes], 1.0, 0.5)
    if hasattr(head, "cv4"):  # what masks have of prototypes, or keypoints
        settle_channels(model, images, [branch[-1] for branch in head.cv4], 0.0, 1.0)


def _rf_detr(model: Any, images: torch.Tensor) -> None:
    """All layers but the norms: those that transformers begins with hardly let an image through."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for path, parameter in model.named_parameters():
            if path.endswith("position_embeddings"):
                nn.init.normal_(parameter)
            elif "reference_point" in path:
                nn.init.normal_(parameter, std=0.1)
            elif parameter.ndim >= 2:
                nn.init.kaiming_normal_(parameter)
    of_pixels = model.model.enc_out_class_embed[0]
    settle_channels(model, images, [of_pixels], 0.0, 3.0)  # far apart: their order matters
    settle_channels(model, images, [model.model.enc_out_bbox_embed[0].layers[-1]], 0.0, 0.3)
    settle_channels(model, images, [model.class_embed], logit(0.01), 1.5)
    settle_channels(model, images, [model.bbox_embed.layers[-1]], 0.0, 0.3)


def _settle_norms(model: Any, images: torch.Tensor) -> None:
    """The layers before the heads. With shifts of 1 SiLU is nearly linear: signals neither fade nor
    do rounding errors grow with the depth."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 0.8)
            nn.init.uniform_(norm.bias, 0.8, 1.2)
            norm.train().reset_running_stats()
            norm.momentum = None  # the statistics of the one batch
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


_FEW = {
    "num_classes": 11,
    "rpn_pre_nms_top_n_test": 200,
    "rpn_post_nms_top_n_test": 100,
    "box_detections_per_img": 40,
}


_TASKS = "zoo/detection/yolo/torch_tasks.py"
_MANY = {"score_thresh": 0.15, "detections_per_img": 300}


def _of_one_size(edge: int) -> Case:
    return Case(_ssd, None, {"score_thresh": 0.05}, (3, edge, edge))


CASES = {
    "ssd300_vgg16": _of_one_size(300),
    "ssdlite320_mobilenet_v3_large": _of_one_size(320),
    "retinanet_resnet50_fpn": Case(_retinanet),
    "retinanet_resnet50_fpn_v2": Case(_retinanet),
    "fcos_resnet50_fpn": Case(_fcos),
    "fasterrcnn_resnet50_fpn": Case(_rcnn, arguments=_FEW),
    "fasterrcnn_resnet50_fpn_v2": Case(_rcnn, arguments=_FEW),
    "fasterrcnn_mobilenet_v3_large_fpn": Case(_rcnn, arguments=_FEW),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Case(_rcnn, arguments=_FEW),
    "maskrcnn_resnet50_fpn": Case(_rcnn, arguments=_FEW),
    "maskrcnn_resnet50_fpn_v2": Case(_rcnn, arguments=_FEW),
    "keypointrcnn_resnet50_fpn": Case(_rcnn, arguments=_FEW),
    "refinedet320_vgg16": Case(
        _refinedet, None, {"score_thresh": 0.05}, (3, 320, 320), "zoo/detection/torch_refinedet.py"
    ),
    **{
        f"yolox_{size}": Case(_yolox, None, _MANY, (3, 192, 192), "zoo/detection/torch_yolox.py")
        for size in ("nano", "tiny", "s", "m", "l", "x", "shapes")
    },
    **{
        name: Case(_yolo, None, _MANY, (3, 192, 192), "zoo/detection/yolo/torch_yolo.py", (head,))
        for name, head in (
            ("yolov8n", "model.22"),
            ("yolo11n", "model.23"),
            ("yolo26n", "model.23"),
        )
    },
    "yolov8n_seg": Case(_yolo, None, _MANY, (3, 192, 192), _TASKS, ("model.22",)),
    "yolov8n_pose": Case(
        _yolo, None, {**_MANY, "num_classes": 80}, (3, 192, 192), _TASKS, ("model.22",)
    ),
    **{
        f"rfdetr_{size}": Case(
            _rf_detr,
            None,
            {"score_thresh": 0.15, "num_queries": 60},
            (3, edge, edge),
            "transformers",
            ("class_embed", "bbox_embed"),
        )
        for size, edge in (("n", 384), ("s", 512), ("m", 576), ("l", 704), ("base", 560))
    },
}
"""By name of the model."""
