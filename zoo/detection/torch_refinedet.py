"""The RefineDet of :mod:`trtnet.zoo.detection.refinedet` in PyTorch: what it is compared to.

Written from the paper (Zhang et al., https://arxiv.org/abs/1711.06897). Anchors, decoding and
suppression are PyTorch's and torchvision's own operations, image by image and class by class.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

_CHANNELS = (512, 512, 1024, 512)  # of conv4_3, conv5_3, conv_fc7 and conv6_2
_STRIDES = (8, 16, 32, 64)
_RATIOS = (0.5, 1.0, 2.0)
_WIDTH = 256  # channels of what the transfer connection blocks give


class L2Norm(nn.Module):
    """The vector of each pixel divided by its length, times a number for each channel."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.weight.view(1, -1, 1, 1)


class Backbone(nn.Module):
    """Four feature maps, of an eighth to a sixty-fourth of the image's edges."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision.models.vgg16(weights=None).features
        self.norm4_3, self.norm5_3 = L2Norm(512, 10.0), L2Norm(512, 8.0)
        self.conv_fc6 = nn.Conv2d(512, 1024, 3, padding=3, dilation=3)
        self.conv_fc7 = nn.Conv2d(1024, 1024, 1)
        self.conv6_1 = nn.Conv2d(1024, 256, 1)
        self.conv6_2 = nn.Conv2d(256, 512, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == 22:
                maps.append(self.norm4_3(x))
            if index == 29:
                maps.append(self.norm5_3(x))
        x = F.relu(self.conv_fc7(F.relu(self.conv_fc6(x))))
        last = F.relu(self.conv6_2(F.relu(self.conv6_1(x))))
        return [*maps, x, last]


class TransferConnection(nn.Module):
    """Features for the object detection module, with those of the next, coarser level added."""

    def __init__(self, in_channels: int, is_last: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, _WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.deconv = None if is_last else nn.ConvTranspose2d(_WIDTH, _WIDTH, 4, 2, padding=1)
        self.conv3 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        x = self.conv2(F.relu(self.conv1(x)))
        if self.deconv is not None:
            x = x + self.deconv(coarser)
        return F.relu(self.conv3(F.relu(x)))


class Head(nn.Module):
    """Four offsets and `classes` logits for each anchor."""

    def __init__(self, in_channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        count = len(_RATIOS)
        self.loc = nn.ModuleList(nn.Conv2d(c, 4 * count, 3, padding=1) for c in in_channels)
        self.conf = nn.ModuleList(
            nn.Conv2d(c, classes * count, 3, padding=1) for c in in_channels
        )  # fmt: skip
        self.classes = classes

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        return _rows(self.loc, maps, 4), _rows(self.conf, maps, self.classes)


def _rows(convs: nn.ModuleList, maps: list[Tensor], size: int) -> Tensor:
    """(B, anchors, size), the anchors level by level, row by row, column by column."""
    found = [conv(x).permute(0, 2, 3, 1) for conv, x in zip(convs, maps, strict=True)]
    return torch.cat([x.reshape(len(x), -1, size) for x in found], 1)


class RefineDet(nn.Module):
    """See :func:`trtnet.zoo.detection.refinedet.refinedet320_vgg16`, whose arguments these are."""

    def __init__(
        self,
        num_classes: int,
        score_thresh: float,
        nms_thresh: float,
        detections_per_img: int,
        topk_candidates: int,
        objectness_thresh: float,
        output_format: str,
        image_sizes: bool,
    ) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.arm = Head(_CHANNELS, 2)
        self.tcb = nn.ModuleList(
            TransferConnection(c, i == len(_CHANNELS) - 1) for i, c in enumerate(_CHANNELS)
        )
        self.odm = Head((_WIDTH,) * len(_CHANNELS), num_classes)
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.detections_per_img, self.topk_candidates = detections_per_img, topk_candidates
        self.objectness_thresh = objectness_thresh
        self.output_format, self.image_sizes = output_format, image_sizes

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        maps = self.backbone(images)
        return self.found(images, image_sizes, self.arm(maps), self.odm(self.connected(maps)))

    def connected(self, maps: list[Tensor]) -> list[Tensor]:
        """The features for the object detection module, from those of the backbone."""
        fine: list[Tensor] = []
        for block, x in zip(reversed(self.tcb), reversed(maps), strict=True):
            fine.insert(0, block(x, fine[0] if fine else None))
        return fine

    def found(
        self,
        images: Tensor,
        image_sizes: Tensor | None,
        arm: tuple[Tensor, Tensor],
        odm: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """The outputs, from those of both modules."""
        (first, objectness), (second, logits) = arm, odm
        height, width = images.shape[2:]
        boxes = decoded(second, decoded(first, anchors(height, width).to(first)))
        if image_sizes is None:
            image_sizes = torch.tensor([[height, width]] * len(images))
        edges = image_sizes.to(boxes)[:, None, [1, 0, 1, 0]]
        boxes = torch.minimum(corners(boxes).clamp(min=0), edges)
        is_object = objectness.softmax(2)[..., 1:] >= self.objectness_thresh
        scores = logits.softmax(2) * is_object
        scores[..., 0] = 0
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        return self._outputs([self._detect(*pair) for pair in zip(boxes, scores, strict=True)])

    def _detect(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """(n, 6) rows of one image: corners, score and class, the best first."""
        index, label = (scores > self.score_thresh).nonzero().T
        values = scores[index, label]
        best = values.argsort(descending=True, stable=True)[: self.topk_candidates]
        index, label, values = index[best], label[best], values[best]
        kept = []
        for number in label.unique():
            of_class = (label == number).nonzero().squeeze(1)
            chosen = torchvision.ops.nms(boxes[index[of_class]], values[of_class], self.nms_thresh)
            kept.append(of_class[chosen])
        keep = torch.cat(kept) if kept else index[:0]
        keep = keep[values[keep].argsort(descending=True)][: self.detections_per_img]
        columns = [boxes[index[keep]], values[keep, None], label[keep, None].to(boxes)]
        return torch.cat(columns, 1)

    def _outputs(self, found: list[Tensor]) -> dict[str, Tensor]:
        count = self.detections_per_img
        rows = torch.stack([F.pad(x, (0, 0, 0, count - len(x))) for x in found])
        numbers = torch.tensor([[len(x)] for x in found], dtype=torch.int32)
        if self.output_format == "rows6":
            rows[..., 5].masked_fill_(torch.arange(count) >= numbers, -1)
            return {"detections": rows.float()}
        return {
            "num_dets": numbers,
            "det_boxes": rows[..., :4],
            "det_scores": rows[..., 4],
            "det_classes": rows[..., 5].int(),
        }


def anchors(height: int, width: int) -> Tensor:
    """(anchors, 4): centre x, centre y, width and height in pixels. Each level has one scale, four
    times its stride, and three ratios of width to height."""
    rows = []
    for stride in _STRIDES:
        for row in range(height // stride):
            for column in range(width // stride):
                for ratio in _RATIOS:
                    side = 4 * stride
                    centre = ((column + 0.5) * stride, (row + 0.5) * stride)
                    rows.append((*centre, side * ratio**0.5, side / ratio**0.5))
    return torch.tensor(rows, dtype=torch.float64)


def decoded(offsets: Tensor, boxes: Tensor) -> Tensor:
    """`boxes` as centres and sizes, moved by `offsets` with the variances 0.1 and 0.2."""
    centres = boxes[..., :2] + 0.1 * offsets[..., :2] * boxes[..., 2:]
    growth = (0.2 * offsets[..., 2:]).exp().clamp(max=1000 / 16)
    return torch.cat([centres, boxes[..., 2:] * growth], -1)


def corners(boxes: Tensor) -> Tensor:
    """Corners of `boxes` given as centres and sizes."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
