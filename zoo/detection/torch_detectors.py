"""torchvision's detectors, called on prepared batches, with the outputs of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image

from trtnet.weights.random_init import build
from trtnet.zoo.detection.torch_outputs import padded
from trtnet.zoo.detection.torch_two_stage import TorchTwoStage

Sizes = list[tuple[int, int]]


class TorchDetector(nn.Module):
    """A detector of torchvision without the preparation of images: its parts, under their names.

    Args:
        model: an SSD, a RetinaNet or an FCOS.
        output_format: see :data:`trtnet.detection.OUTPUT_FORMATS`.
    """

    def __init__(self, model: Any, output_format: str) -> None:
        super().__init__()
        self.backbone: nn.Module = model.backbone
        self.anchor_generator: nn.Module = model.anchor_generator
        self.head: nn.Module = model.head
        self.output_format = output_format
        self._whole: tuple[Any, ...] = (model,)  # not a child: its parts are

    def forward(
        self, x: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        sizes = [tuple(x.shape[-2:])] * len(x) if image_sizes is None else image_sizes.tolist()
        images = ImageList(x, sizes)
        features = list(self.backbone(x).values())
        outputs, anchors = self.head(features), self.anchor_generator(images, features)
        if self.output_format == "raw":
            return self._raw(outputs, anchors, sizes)
        (model,) = self._whole
        if not isinstance(model, SSD):
            outputs, anchors = self._by_level(outputs, anchors, features)
        found = model.postprocess_detections(outputs, anchors, sizes)
        return padded(found, model.detections_per_img, self.output_format)

    def _by_level(
        self, outputs: dict[str, torch.Tensor], anchors: list[torch.Tensor], features: Any
    ) -> tuple[dict[str, Any], list[Any]]:
        cells = [level.shape[-2] * level.shape[-1] for level in features]
        each = outputs["cls_logits"].shape[1] // sum(cells)
        lengths = [count * each for count in cells]
        split = {name: list(value.split(lengths, 1)) for name, value in outputs.items()}
        return split, [list(one.split(lengths)) for one in anchors]

    def _raw(
        self, outputs: dict[str, torch.Tensor], anchors: list[torch.Tensor], sizes: Sequence[Any]
    ) -> dict[str, torch.Tensor]:
        (model,) = self._whole
        decode = model.box_coder.decode
        if not isinstance(model, FCOS):
            decode = model.box_coder.decode_single
        boxes = [
            clip_boxes_to_image(decode(*pair), size)
            for *pair, size in zip(outputs["bbox_regression"], anchors, sizes, strict=True)
        ]
        if isinstance(model, SSD):
            scores = outputs["cls_logits"].softmax(-1)
            scores[..., 0] = 0  # the background
        else:
            scores = outputs["cls_logits"].sigmoid()
        if isinstance(model, FCOS):
            scores = (scores * outputs["bbox_ctrness"].sigmoid()).sqrt()
        return {"boxes": torch.stack(boxes), "scores": scores}


def make_torch_detector(
    name: str,
    output_format: str = "efficientnms",
    norm_eps: float | None = None,
    image_sizes: bool = False,
    box_topk_candidates: int | None = None,
    **arguments: Any,
) -> TorchDetector | TorchTwoStage:
    """torchvision's model `name` as the same model of the zoo, with its arguments."""
    model = build(name, **arguments).eval()
    for module in model.modules():
        if norm_eps is not None and isinstance(module, nn.BatchNorm2d):
            module.eps = norm_eps
    kind = TorchTwoStage if isinstance(model, FasterRCNN) else TorchDetector
    return kind(model, output_format)
