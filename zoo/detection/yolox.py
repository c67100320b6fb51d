"""YOLOX, with the parameters' names of its published weights, and one trained on drawn shapes.

Ge et al., YOLOX: Exceeding YOLO Series in 2021, https://arxiv.org/abs/2107.08430. The published
weights take BGR levels of 0..255 without normalisation, in a letterbox of 114 at the top left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn, ops
from trtnet.detection import (
    Suppression,
    checked_output_format,
    detections_of_best_class,
    output_tensors,
)
from trtnet.detection.anchors import grid_points
from trtnet.detection.coding import clip_to_image, image_size
from trtnet.detection.distances import halves
from trtnet.dtypes import float32
from trtnet.nn import functional as F
from trtnet.zoo.detection.model import check_multiple
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

STRIDES = (8, 16, 32)
"""Distance of the cells of the three levels, in pixels."""

CHANNELS = (256, 512, 1024)
"""Channels of the levels where `width` is 1."""

COCO = 80
"""Classes of the published weights."""


class BaseConv(nn.Module):
    """A convolution that keeps the image's size but for its stride, BatchNorm and SiLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2,
                              groups=groups, bias=False)  # fmt: skip
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class DWConv(nn.Module):
    """A depthwise convolution and a pointwise one."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = BaseConv(in_channels, in_channels, kernel, stride, in_channels)
        self.pconv = BaseConv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):
    """1×1 and 3×3 convolutions, whose input may be added to the result."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        self.conv1 = BaseConv(channels, channels, 1)
        self.conv2 = conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return y + x if self.shortcut else y


class CSPLayer(nn.Module):
    """`count` bottlenecks on one half of the channels, beside the other half."""

    def __init__(
        self, in_channels: int, out_channels: int, count: int, shortcut: bool, depthwise: bool
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = BaseConv(in_channels, hidden, 1)
        self.conv2 = BaseConv(in_channels, hidden, 1)
        self.conv3 = BaseConv(2 * hidden, out_channels, 1)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut, depthwise) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(ops.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class SPPBottleneck(nn.Module):
    """The largest values around each cell, at three distances, beside the cell's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = BaseConv(channels, channels // 2, 1)
        self.m = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13)])
        self.conv2 = BaseConv(channels // 2 * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(ops.cat([x, *(pool(x) for pool in self.m)], 1))


class Focus(nn.Module):
    """The four pixels of each 2×2 block as channels, and a 3×3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = BaseConv(in_channels * 4, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        blocks = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(ops.cat(blocks, 1))


class CSPDarknet(nn.Module):
    """Features of an image (B, 3, H, W) at an eighth, a sixteenth and a 32nd of its edges."""

    def __init__(self, depth: float, width: float, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        base, count = int(width * 64), max(round(depth * 3), 1)

        def stage(level: int, bottlenecks: int, *spp: nn.Module) -> nn.Sequential:
            channels, shortcut = base << level, not spp
            layer = CSPLayer(channels, channels, bottlenecks, shortcut, depthwise)
            return nn.Sequential(conv(channels // 2, channels, 3, 2), *spp, layer)

        self.stem = Focus(3, base)
        self.dark2 = stage(1, count)
        self.dark3 = stage(2, 3 * count)
        self.dark4 = stage(3, 3 * count)
        self.dark5 = stage(4, count, SPPBottleneck(base * 16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        third = self.dark3(self.dark2(self.stem(x)))
        fourth = self.dark4(third)
        return third, fourth, self.dark5(fourth)


class YOLOPAFPN(nn.Module):
    """Features of three strides, each with what the others saw: first downwards, then upwards."""

    def __init__(self, depth: float, width: float, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        small, middle, large = (int(channels * width) for channels in CHANNELS)
        count = round(3 * depth)
        self.backbone = CSPDarknet(depth, width, depthwise)
        self.lateral_conv0 = BaseConv(large, middle, 1)
        self.C3_p4 = CSPLayer(2 * middle, middle, count, False, depthwise)
        self.reduce_conv1 = BaseConv(middle, small, 1)
        self.C3_p3 = CSPLayer(2 * small, small, count, False, depthwise)
        self.bu_conv2 = conv(small, small, 3, 2)
        self.C3_n3 = CSPLayer(2 * small, middle, count, False, depthwise)
        self.bu_conv1 = conv(middle, middle, 3, 2)
        self.C3_n4 = CSPLayer(2 * middle, large, count, False, depthwise)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        third, fourth, fifth = self.backbone(x)
        top = self.lateral_conv0(fifth)
        middle = self.C3_p4(ops.cat([F.interpolate(top, scale_factor=2.0), fourth], 1))
        middle = self.reduce_conv1(middle)
        fine = self.C3_p3(ops.cat([F.interpolate(middle, scale_factor=2.0), third], 1))
        medium = self.C3_n3(ops.cat([self.bu_conv2(fine), middle], 1))
        return fine, medium, self.C3_n4(ops.cat([self.bu_conv1(medium), top], 1))


class YOLOXHead(nn.Module):
    """Of each stride: convolutions for the class, and others for the box and for whether there is
    an object."""

    def __init__(self, num_classes: int, width: float, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        hidden, counts = int(256 * width), [int(channels * width) for channels in CHANNELS]

        def both() -> nn.Sequential:
            return nn.Sequential(conv(hidden, hidden, 3), conv(hidden, hidden, 3))

        def last(channels: int) -> nn.ModuleList:
            return nn.ModuleList([nn.Conv2d(hidden, channels, 1) for _ in counts])

        self.stems = nn.ModuleList([BaseConv(count, hidden, 1) for count in counts])
        self.cls_convs = nn.ModuleList([both() for _ in counts])
        self.reg_convs = nn.ModuleList([both() for _ in counts])
        self.cls_preds, self.reg_preds, self.obj_preds = last(num_classes), last(4), last(1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4), corners in pixels, and scores (B, N, classes), both float32."""
        boxes, scores = [], []
        for level, x in enumerate(features):
            x = self.stems[level](x)
            classes = _rows(self.cls_preds[level](self.cls_convs[level](x)))
            x = self.reg_convs[level](x)
            objects = _rows(self.obj_preds[level](x))
            corner, sides = halves(_rows(self.reg_preds[level](x)))
            stride = STRIDES[level]
            centre = corner * float(stride) + grid_points(x, (stride, stride)).unsqueeze(0)
            half = ops.exp(sides) * (stride / 2)
            boxes.append(ops.cat([centre - half, centre + half], 2))
            scores.append(F.sigmoid(classes) * F.sigmoid(objects))
        return ops.cat(boxes, 1), ops.cat(scores, 1)


def _rows(x: Tensor) -> Tensor:
    """(B, H·W, C) float32 of (B, C, H, W)."""
    return x.to(float32).flatten(2).transpose(1, 2)


class YOLOX(nn.Module):
    """Input (B, 3, H, W), height and width multiples of 32, and with `image_sizes` (B, 2) int32,
    the height and width of each image inside of it; outputs see :mod:`trtnet.detection.formats`.

    A score is that of an object times that of the class. As in YOLOX, a box takes part in the
    suppression with its best class alone; ``"raw"`` has the scores of all.

    Args:
        depth, width: what numbers of bottlenecks and of channels are multiplied by.
        depthwise: whether 3×3 convolutions are depthwise and pointwise ones.
        how: candidates and suppression.
    """

    def __init__(
        self, num_classes: int, depth: float, width: float, depthwise: bool,
        how: Suppression, output_format: str, image_sizes: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = YOLOPAFPN(depth, width, depthwise)
        self.head = YOLOXHead(num_classes, width, depthwise)
        self.how = how
        self.output_format, self.image_sizes = checked_output_format(output_format), image_sizes

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        check_multiple("YOLOX", images, STRIDES[-1])
        boxes, scores = self.head(self.backbone(images))
        boxes = clip_to_image(boxes, image_size(images, image_sizes))
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        found = detections_of_best_class(boxes, scores, self.how)
        return output_tensors(found, self.output_format)


def _twin(num_classes: int, depth: float, width: float, depthwise: bool, **others: Any
          ) -> torch.nn.Module:  # fmt: skip
    from trtnet.zoo.detection import torch_yolox

    return torch_yolox.YOLOX(num_classes, depth, width, depthwise, **others)


def _published(edge: int) -> dict[str, Any]:
    """How YOLOX prepares images for its published weights."""
    return {"letterbox_size": [edge, edge], "pad_color": 114, "pad_position": "top-left",
            "channels": "bgr", "scale": 1.0, "antialias": False}  # fmt: skip


def _model(
    name: str, depth: float, width: float, edge: int, depthwise: bool = False,
    num_classes: int = COCO, description: str = "", **details: Any,
) -> Callable[..., YOLOX]:  # fmt: skip
    """Registers a model of these sizes; `edge` is that of its input by default."""
    details.setdefault("preprocessing", _published(edge))
    sizes: dict[str, Any] = {
        "num_classes": num_classes,
        "depth": depth,
        "width": width,
        "depthwise": depthwise,
    }

    def builder(
        num_classes: int = num_classes,
        depth: float = depth,
        width: float = width,
        depthwise: bool = depthwise,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.65,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> YOLOX:
        how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
        return YOLOX(num_classes, depth, width, depthwise, how, output_format, image_sizes)

    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = f"""{description or f"YOLOX-{name.removeprefix('yolox_').capitalize()}."}

    Ge et al., https://arxiv.org/abs/2107.08430; the thresholds are those of its evaluation.

    Args:
        num_classes: without a background.
        depth, width: what numbers of bottlenecks and of channels are multiplied by.
        depthwise: whether 3x3 convolutions are depthwise and pointwise ones.
        score_thresh: boxes with no higher score are dropped.
        nms_thresh: of two boxes of a class that overlap by more, the worse is dropped.
        detections_per_img: how many an image has at most.
        topk_candidates: how many boxes of an image take part in suppression.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    twin = functools.partial(_twin, **sizes)
    register(input_shape=(3, edge, edge), twin=twin, task="detection", **details)(builder)
    return builder


yolox_nano = _model("yolox_nano", 0.33, 0.25, 416, depthwise=True)
yolox_tiny = _model("yolox_tiny", 0.33, 0.375, 416)
yolox_s = _model("yolox_s", 0.33, 0.5, 640)
yolox_m = _model("yolox_m", 0.67, 0.75, 640)
yolox_l = _model("yolox_l", 1.0, 1.0, 640)
yolox_x = _model("yolox_x", 1.33, 1.25, 640)
yolox_shapes = _model(
    "yolox_shapes", 0.33, 0.15625, 416, num_classes=4,
    description="A small YOLOX; weights trained on drawn shapes by ``tools/train_detector.py``.",
    embedded={"SHAPES_V1": "yolox_shapes.safetensors"}, default_weights="SHAPES_V1",
    preprocessing=None,  # its weights say it
)  # fmt: skip
