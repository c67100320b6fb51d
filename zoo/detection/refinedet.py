"""RefineDet on VGG-16, from its paper.

Zhang et al., Single-Shot Refinement Neural Network for Object Detection,
https://arxiv.org/abs/1711.06897. Parameters have names of our own, the convolutions of VGG-16 those
of torchvision. What the paper leaves open is chosen so: ``conv_fc6`` is dilated by 3, the distance
of the weights that are left of a 7×7 kernel; ``conv6_1`` is 1×1 of 256 channels and ``conv6_2`` 3×3
with stride 2, as in SSD; a decoded box grows to 62.5 times its anchor at most; images are prepared
as for torchvision's SSD on the same backbone, whose features it can begin with.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.detection import Suppression, checked_output_format, detections, output_tensors
from trtnet.detection.anchors import grid_points
from trtnet.detection.coding import SSD, clip_to_image, decode_boxes, image_size
from trtnet.dtypes import float32
from trtnet.errors import ShapeError
from trtnet.nn import functional as F
from trtnet.zoo.detection.registering import levels_of_vgg
from trtnet.zoo.registry import register
from trtnet.zoo.vgg import vgg16

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

CHANNELS = (512, 512, 1024, 512)
"""Channels of conv4_3, conv5_3, conv_fc7 and conv6_2."""

STRIDES = (8, 16, 32, 64)
"""Distance of their cells in pixels."""

RATIOS = (0.5, 1.0, 2.0)
"""Width over height of the anchors of a cell; the area's square root is four strides."""

WIDTH = 256
"""Channels of what the transfer connection blocks give."""

_CONV4_3, _CONV5_3 = 22, 29  # positions of their activations in VGG-16's features


class L2Norm(nn.Module):
    """Features (B, C, H, W) divided at each pixel by the norm of their channels, times a number for
    each channel; the paper begins training with 10 for conv4_3 and 8 for conv5_3.

    Liu et al., ParseNet, https://arxiv.org/abs/1506.04579.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter.empty((channels,))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x) * self.weight.reshape(1, -1, 1, 1)


class Backbone(nn.Module):
    """Features of an image, (B, 3, H, W): conv4_3 and conv5_3, normalised, conv_fc7 and conv6_2."""

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg16().features
        self.norm4_3, self.norm5_3 = L2Norm(512), L2Norm(512)
        self.conv_fc6 = nn.Conv2d(512, 1024, 3, padding=3, dilation=3)
        self.conv_fc7 = nn.Conv2d(1024, 1024, 1)
        self.conv6_1 = nn.Conv2d(1024, 256, 1)
        self.conv6_2 = nn.Conv2d(256, 512, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == _CONV4_3:
                maps.append(self.norm4_3(x))
            if index == _CONV5_3:
                maps.append(self.norm5_3(x))
        x = F.relu(self.conv_fc7(F.relu(self.conv_fc6(x))))
        return [*maps, x, F.relu(self.conv6_2(F.relu(self.conv6_1(x))))]


class TransferConnection(nn.Module):
    """The transfer connection block: features (B, 256, H, W) for the object detection module, with
    those of the next, coarser level added.

    Args:
        is_last: whether there is no coarser level.
    """

    def __init__(self, in_channels: int, is_last: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.deconv = None if is_last else nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, padding=1)
        self.conv3 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        x = self.conv2(F.relu(self.conv1(x)))
        if self.deconv is not None:
            x = x + self.deconv(coarser)
        return F.relu(self.conv3(F.relu(x)))


class Head(nn.Module):
    """Offsets (B, N, 4) and logits (B, N, classes) of all anchors of the feature maps."""

    def __init__(self, in_channels: Sequence[int], classes: int) -> None:
        super().__init__()
        count = len(RATIOS)
        self.loc = nn.ModuleList(nn.Conv2d(c, 4 * count, 3, padding=1) for c in in_channels)
        self.conf = nn.ModuleList(
            nn.Conv2d(c, classes * count, 3, padding=1) for c in in_channels
        )  # fmt: skip
        self.classes = classes

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return _rows(self.loc, maps, 4), _rows(self.conf, maps, self.classes)


def _rows(convs: nn.ModuleList, maps: Sequence[Tensor], size: int) -> Tensor:
    """(B, N, size): level by level, row by row, column by column."""
    found = [conv(x).permute(0, 2, 3, 1) for conv, x in zip(convs, maps, strict=True)]
    return ops.cat([x.reshape(x.shape[0], -1, size) for x in found], 1)


class RefineDet(nn.Module):
    """Input (B, 3, H, W), height and width multiples of 64, and with `image_sizes` (B, 2) int32,
    the height and width of each image inside of it; outputs see :mod:`trtnet.detection.formats`.

    The anchor refinement module tells objects from background and moves the anchors; the object
    detection module gives the moved anchors classes, and moves them again.

    Args:
        how: candidates and suppression.
        objectness_thresh: anchors that are objects with a lower probability are dropped.
    """

    def __init__(
        self,
        num_classes: int,
        how: Suppression,
        objectness_thresh: float,
        output_format: str,
        image_sizes: bool,
    ) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.arm = Head(CHANNELS, 2)
        self.tcb = nn.ModuleList(
            TransferConnection(c, i == len(CHANNELS) - 1) for i, c in enumerate(CHANNELS)
        )
        self.odm = Head((WIDTH,) * len(CHANNELS), num_classes)
        self.num_classes, self.how, self.objectness_thresh = num_classes, how, objectness_thresh
        self.output_format, self.image_sizes = checked_output_format(output_format), image_sizes

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        _check_size(images)
        maps = self.backbone(images)
        first, objectness = self.arm(maps)
        second, logits = self.odm(self._connected(maps))
        refined = decode_boxes(first, _anchors(maps), SSD)
        boxes = clip_to_image(decode_boxes(second, refined, SSD), image_size(images, image_sizes))
        scores = self._scores(objectness, logits)
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        return output_tensors(detections(boxes, scores, self.how), self.output_format)

    def _connected(self, maps: Sequence[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        for block, x in zip(reversed(self.tcb), reversed(maps), strict=True):
            found.insert(0, block(x, found[0] if found else None))
        return found

    def _scores(self, objectness: Tensor, logits: Tensor) -> Tensor:
        """(B, N, num_classes) probabilities: 0 for the background, and for anchors without an
        object."""
        is_class = np.ones((1, 1, self.num_classes), np.float32)
        is_class[..., 0] = 0
        scores = F.softmax(logits.to(float32), -1) * logits.network.constant(is_class)
        probability = F.softmax(objectness.to(float32), -1)[..., 1:]
        return ops.where(probability >= self.objectness_thresh, scores, 0.0)


def _check_size(images: Tensor) -> None:
    for size in images.shape[2:]:
        if isinstance(size, int) and size % STRIDES[-1]:
            raise ShapeError("RefineDet doubles the size of its features three times",
                             expected=f"height and width that are multiples of {STRIDES[-1]}",
                             got=images.shape)  # fmt: skip


def _anchors(maps: Sequence[Tensor]) -> Tensor:
    """(1, N, 4) float32 corners: level by level, row by row, three for each cell."""
    found = []
    roots = np.sqrt(np.array(RATIOS, np.float32))
    for x, stride in zip(maps, STRIDES, strict=True):
        half = 2 * stride * np.stack([roots, 1 / roots], 1)[None]
        shifts = x.network.constant(np.concatenate([-half, half], 2).astype(np.float32))
        centers = grid_points(x, (stride, stride), 0.5)
        corners = ops.cat([centers, centers], 1).unsqueeze(1) + shifts
        found.append(corners.reshape(1, -1, 4))
    return ops.cat(found, 1)


def _twin(**arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.torch_refinedet import RefineDet as TorchRefineDet

    given = inspect.signature(refinedet320_vgg16).bind(**arguments)
    given.apply_defaults()
    return TorchRefineDet(**given.arguments)


@register(input_shape=(3, 320, 320), twin=_twin, task="detection", preprocessing=levels_of_vgg(320))
def refinedet320_vgg16(
    num_classes: int = 21,
    score_thresh: float = 0.01,
    nms_thresh: float = 0.45,
    detections_per_img: int = 200,
    topk_candidates: int = 400,
    objectness_thresh: float = 0.01,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> RefineDet:
    """RefineDet320 on VGG-16; the thresholds and numbers of boxes are the paper's.

    Zhang et al., https://arxiv.org/abs/1711.06897.

    Args:
        num_classes: with the background, class 0.
        score_thresh: boxes with no higher score are dropped.
        nms_thresh: of two boxes of a class that overlap by more, the worse is dropped.
        detections_per_img: how many an image has at most.
        topk_candidates: how many (box, class) pairs of an image take part in suppression.
        objectness_thresh: anchors that are objects with a lower probability are dropped.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
    return RefineDet(num_classes, how, objectness_thresh, output_format, image_sizes)
