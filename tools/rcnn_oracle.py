"""torchvision's two-stage detectors as an oracle: weights that find many different objects, the whole
model on prepared images, and the comparison with what a network of trtnet gives.

Random weights would find nothing, or the same score everywhere. Here the statistics of BatchNorm
are those of the images, and the last layer of each head is scaled so that its outputs spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.resnet import Bottleneck
from torchvision.ops import boxes as box_ops

from trtnet.detection import heatmap_keypoints

Arrays = dict[str, np.ndarray]
GAP = 1e-3  # between the scores of neighbours, far above what rounding changes
NO_MATCH = {"iou": 0.0, "corner": np.inf, "score": np.inf}
_BRANCH_GAIN = 0.2  # of residual branches: untrained ones of gain 1 amplify rounding errors


class Prepared(nn.Module):
    """In place of torchvision's transform: puts images, prepared already, into a batch of `size`."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Sequence[torch.Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        batch = images[0].new_zeros((len(images), 3, *self.size))
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]] = image
        return ImageList(batch, [tuple(image.shape[1:]) for image in images]), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        return result


def drawn(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(3, height, width) float32: rectangles and ellipses of many sizes on a gradient."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.stack([x / width, y / height, (x + y) / (height + width)]) * 2 - 1
    for _ in range(25):
        cx, cy = rng.random(2) * [width, height]
        a, b = np.exp(rng.uniform(1, np.log(min(height, width) / 2), 2))
        u, v = np.abs(x - cx) / a, np.abs(y - cy) / b
        inside = (u * u + v * v < 1) if rng.random() < 0.5 else (np.maximum(u, v) < 1)
        image[:, inside] = rng.uniform(-2, 2, (3, 1))
    return image.astype(np.float32)


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(3, height, width) float32."""
    return rng.standard_normal((3, height, width)).astype(np.float32)


def seeded(name: str, images: Sequence[np.ndarray], seed: int = 0, **arguments: Any) -> nn.Module:
    """torchvision's model `name`, whose weights find many objects of all classes in `images`."""
    torch.manual_seed(seed)
    model = detection.__dict__[name](weights=None, weights_backbone=None, **arguments).eval()
    with torch.no_grad(), per_class():
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.bn3.weight.fill_(_BRANCH_GAIN)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        find(model, images)
        for norm in norms:
            norm.eval()
        heads = model.roi_heads
        for layer, spread in (
            (model.rpn.head.cls_logits, 1.5),
            (model.rpn.head.bbox_pred, 0.3),
            (heads.box_predictor.cls_score, 1.0),
            (heads.box_predictor.bbox_pred, 0.7),
            (getattr(heads.mask_predictor, "mask_fcn_logits", None), 2.0),
            (getattr(heads.keypoint_predictor, "kps_score_lowres", None), 2.0),
        ):
            if layer is not None:
                _spread(model, layer, spread, images)
        heads.box_predictor.cls_score.bias[0] += 1.0  # the background is likely
    return model


def _spread(
    model: nn.Module, layer: nn.Module, spread: float, images: Sequence[np.ndarray]
) -> None:
    """Makes the outputs of `layer` have the mean 0 and this standard deviation."""
    nn.init.normal_(layer.weight)
    first: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, y: first.append(y))
    find(model, images)
    handle.remove()
    axes = [axis for axis in range(first[0].ndim) if axis != 1]
    mean, deviation = first[0].mean(axes), first[0].std(axes) + 1e-12
    per_output = [-1, *[1] * (layer.weight.ndim - 1)]
    if isinstance(layer, nn.ConvTranspose2d):
        per_output = [1, -1, 1, 1]
    layer.weight.mul_((spread / deviation).reshape(per_output))
    layer.bias.copy_((layer.bias - mean) * spread / deviation)


@contextmanager
def per_class() -> Iterator[None]:
    """torchvision suppresses one class after the other, as it does with many boxes. Few boxes it
    moves apart by offsets, which rounding disturbs: it then differs from its own rule."""
    before = box_ops._batched_nms_coordinate_trick
    box_ops._batched_nms_coordinate_trick = box_ops._batched_nms_vanilla
    try:
        yield
    finally:
        box_ops._batched_nms_coordinate_trick = before


def batch_size(images: Sequence[np.ndarray]) -> tuple[int, int]:
    """Height and width of the batch that holds `images`: multiples of 32, as in torchvision."""
    sides = np.array([image.shape[1:] for image in images]).max(0)
    height, width = (-(-sides // 32) * 32).tolist()
    return height, width


def find(model: nn.Module, images: Sequence[np.ndarray], double: bool = False) -> list[Arrays]:
    """What torchvision's whole model finds in prepared images, (3, H, W) each, in pixels of the
    batch."""
    model.transform = Prepared(batch_size(images))
    kind = torch.float64 if double else torch.float32
    with torch.no_grad(), per_class():
        found = model.to(kind)([torch.from_numpy(image).to(kind) for image in images])
    model.float()
    return [{name: value.numpy() for name, value in image.items()} for image in found]


def inputs(images: Sequence[np.ndarray]) -> Arrays:
    """The inputs of the network: the batch and the sizes of its images."""
    batch = np.zeros((len(images), 3, *batch_size(images)), np.float32)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    sizes = np.array([image.shape[1:] for image in images], np.int32)
    return {"input": batch, "image_sizes": sizes}


def clear(scores: np.ndarray) -> int:
    """How many of the falling `scores` are at least :data:`GAP` above the next."""
    return int((scores[:-1] - scores[1:] >= GAP).sum())


def differences(got: Arrays, image: int, wanted: Arrays) -> dict[str, float]:
    """How far what a network found in one image is from torchvision's.

    Boxes are matched one to one within their classes; ``inf`` stands for a box without a partner.

    Returns:
        ``iou``: the least overlap of a pair whose edges are at least a pixel; ``corner``: the
        largest difference of a corner, in pixels; ``score``: that of a score; where there are masks,
        ``mask``: the largest difference of a probability; where there are keypoints,
        ``heatmap``, the largest difference of a keypoint's score, and ``apart``, the fraction of
        the keypoints that are more than a hundredth of a pixel apart.
    """
    count = len(wanted["scores"])
    if int(got["num_dets"][image, 0]) != count:
        return dict(NO_MATCH)
    mine = {name: np.asarray(x[image, :count]) for name, x in got.items() if name != "num_dets"}
    overlap = box_ops.box_iou(*(torch.from_numpy(x).double() for x in
                                (mine["det_boxes"], wanted["boxes"]))).numpy()  # fmt: skip
    overlap[mine["det_classes"][:, None] != wanted["labels"]] = 0
    partner = overlap.argmax(1)
    if len(np.unique(partner)) < count:
        return dict(NO_MATCH)
    theirs = {name: x[partner] for name, x in wanted.items()}
    large = (wanted["boxes"][:, 2:] - wanted["boxes"][:, :2] >= 1).all(1)[partner]
    found = {
        "iou": float(overlap.max(1)[large].min(initial=1)),
        "corner": float(np.abs(mine["det_boxes"] - theirs["boxes"]).max(initial=0)),
        "score": float(np.abs(mine["det_scores"] - theirs["scores"]).max(initial=0)),
    }
    if "masks" in theirs:
        found["mask"] = float(np.abs(mine["det_masks"] - theirs["masks"][:, 0]).max(initial=0))
    if "keypoints" in theirs:
        points, scores = heatmap_keypoints(mine["det_keypoints"], mine["det_boxes"])
        found["heatmap"] = float(np.abs(scores - theirs["keypoints_scores"]).max(initial=0))
        apart = np.abs(points - theirs["keypoints"][..., :2]).max(-1) > 0.01
        found["apart"] = float(apart.mean()) if count else 0.0
    return found
