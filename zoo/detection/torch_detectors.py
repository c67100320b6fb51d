"""torchvision's detectors, called on prepared batches, with the outputs of ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image

from trtnet.weights.random_init import build

Sizes = list[tuple[int, int]]


class TorchAnchors(nn.Module):
    """Anchors of one image, for each of the features, as ours gives them.

    Args:
        generator: of torchvision.
    """

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self._generator = (generator,)  # not a child, which ours has not

    def forward(self, images: ImageList, features: list[torch.Tensor]) -> list[torch.Tensor]:
        (generator,) = self._generator
        counts = zip(features, generator.num_anchors_per_location(), strict=True)
        lengths = [level.shape[-2] * level.shape[-1] * count for level, count in counts]
        return list(generator(images, features)[0].split(lengths))


class TorchDetector(nn.Module):
    """A detector of torchvision without the preparation of images: its parts with parameters, under
    their names.

    Args:
        model: an SSD, a RetinaNet or an FCOS.
        output_format: see :data:`trtnet.detection.OUTPUT_FORMATS`.
    """

    def __init__(self, model: Any, output_format: str) -> None:
        super().__init__()
        self.backbone: nn.Module = model.backbone
        self.anchor_generator = TorchAnchors(model.anchor_generator)
        self.head: nn.Module = model.head
        self.output_format = output_format
        self._whole: tuple[Any, ...] = (model,)  # not a child: its parts are

    def forward(
        self, x: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        sizes = [tuple(x.shape[-2:])] * len(x) if image_sizes is None else image_sizes.tolist()
        images = ImageList(x, sizes)
        features = list(self.backbone(x).values())
        outputs, levels = self.head(features), self.anchor_generator(images, features)
        anchors = [torch.cat(levels)] * len(x)
        if self.output_format == "raw":
            return self._raw(outputs, anchors, sizes)
        (model,) = self._whole
        if not isinstance(model, SSD):
            lengths = [len(level) for level in levels]
            outputs = {name: list(value.split(lengths, 1)) for name, value in outputs.items()}
            anchors = [levels] * len(x)
        found = model.postprocess_detections(outputs, anchors, sizes)
        return padded(found, model.detections_per_img, self.output_format)

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
    name: str, output_format: str = "efficientnms", norm_eps: float | None = None,
    image_sizes: bool = False, **arguments: Any,
) -> TorchDetector:  # fmt: skip
    """torchvision's model `name` as the same model of the zoo, with its arguments."""
    model = build(name, **arguments).eval()
    for module in model.modules():
        if norm_eps is not None and isinstance(module, nn.BatchNorm2d):
            module.eps = norm_eps
    return TorchDetector(model, output_format)


def padded(
    found: Sequence[dict[str, torch.Tensor]], count: int, output_format: str
) -> dict[str, torch.Tensor]:
    """What torchvision found in each image, as outputs of `count` places."""
    columns = defaultdict(list)
    for image in found:
        spare = count - len(image["scores"])
        for name in ("boxes", "scores", "labels"):
            rest = image[name].new_zeros((spare, *image[name].shape[1:]))
            columns[name].append(torch.cat([image[name], rest]))
    boxes, scores, labels = (torch.stack(columns[name]) for name in ("boxes", "scores", "labels"))
    numbers = torch.tensor([[len(image["scores"])] for image in found], dtype=torch.int32)
    if output_format == "efficientnms":
        return {"num_dets": numbers, "det_boxes": boxes, "det_scores": scores,
                "det_classes": labels.int()}  # fmt: skip
    missing = torch.arange(count)[None] >= numbers
    classes = torch.where(missing, -1.0, labels.to(scores.dtype))
    return {"detections": torch.cat([boxes, scores[..., None], classes[..., None]], 2)}
