"""The YOLOX of :mod:`trtnet.zoo.detection.yolox` in PyTorch: what it is trained with and compared
to. Its suppression is ``torchvision.ops.nms``, class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import nms

STRIDES = (8, 16, 32)
PRIOR = 0.01  # share of cells that hold an object, before training


class BaseConv(nn.Module):
    """A convolution that keeps the image's size but for its stride, BatchNorm and SiLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2,
                              groups=groups, bias=False)  # fmt: skip
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


class DWConv(nn.Module):
    """A depthwise convolution and a pointwise one."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = BaseConv(in_channels, in_channels, kernel, stride, in_channels)
        self.pconv = BaseConv(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):
    """1×1 and 3×3 convolutions, whose input may be added to the result."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        self.conv1 = BaseConv(channels, channels, 1)
        self.conv2 = conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class SPPBottleneck(nn.Module):
    """The largest values around each cell, at three distances, beside the cell's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = BaseConv(channels, channels // 2, 1)
        self.m = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13)])
        self.conv2 = BaseConv(channels // 2 * 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class Focus(nn.Module):
    """The four pixels of each 2×2 block as channels, and a 3×3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = BaseConv(in_channels * 4, out_channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(blocks, 1))


class CSPDarknet(nn.Module):
    """Features at a fourth, an eighth, a sixteenth and a 32nd of the image's edges; the last three
    are returned."""

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

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        third = self.dark3(self.dark2(self.stem(x)))
        fourth = self.dark4(third)
        return third, fourth, self.dark5(fourth)


class YOLOPAFPN(nn.Module):
    """Features of three strides, each with what the others saw: first downwards, then upwards."""

    def __init__(self, depth: float, width: float, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        small, middle, large = (int(channels * width) for channels in (256, 512, 1024))
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

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        third, fourth, fifth = self.backbone(x)
        top = self.lateral_conv0(fifth)
        middle = self.C3_p4(torch.cat([F.interpolate(top, scale_factor=2.0), fourth], 1))
        middle = self.reduce_conv1(middle)
        fine = self.C3_p3(torch.cat([F.interpolate(middle, scale_factor=2.0), third], 1))
        medium = self.C3_n3(torch.cat([self.bu_conv2(fine), middle], 1))
        return fine, medium, self.C3_n4(torch.cat([self.bu_conv1(medium), top], 1))


class YOLOXHead(nn.Module):
    """Of each stride: convolutions for the class, and others for the box and for whether there is
    an object."""

    def __init__(self, num_classes: int, width: float, depthwise: bool) -> None:
        super().__init__()
        conv = DWConv if depthwise else BaseConv
        hidden, counts = int(256 * width), [int(channels * width) for channels in (256, 512, 1024)]

        def both() -> nn.Sequential:
            return nn.Sequential(conv(hidden, hidden, 3), conv(hidden, hidden, 3))

        def last(channels: int) -> nn.ModuleList:
            return nn.ModuleList([nn.Conv2d(hidden, channels, 1) for _ in counts])

        self.stems = nn.ModuleList([BaseConv(count, hidden, 1) for count in counts])
        self.cls_convs = nn.ModuleList([both() for _ in counts])
        self.reg_convs = nn.ModuleList([both() for _ in counts])
        self.cls_preds, self.reg_preds, self.obj_preds = last(num_classes), last(4), last(1)
        for layer in (*self.cls_preds, *self.obj_preds):
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, N, 5 + classes): the box as the network gives it, the logit of an object, and those
        of the classes."""
        levels = []
        for level, x in enumerate(features):
            x = self.stems[level](x)
            classes = self.cls_preds[level](self.cls_convs[level](x))
            x = self.reg_convs[level](x)
            found = [self.reg_preds[level](x), self.obj_preds[level](x), classes]
            levels.append(torch.cat(found, 1).flatten(2))
        return torch.cat(levels, 2).transpose(1, 2)


def cells(height: int, width: int) -> torch.Tensor:
    """(N, 3) float32: column, row and stride of every cell of an image."""
    levels = []
    for stride in STRIDES:
        row, column = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride),
                                     indexing="ij")  # fmt: skip
        levels.append(torch.stack([column, row, torch.full_like(row, stride)], 2).flatten(0, 1))
    return torch.cat(levels).float()


def decoded(found: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Corners (B, N, 4) in pixels, of what the head gives."""
    found = found.float()
    centre = (found[..., :2] + cells[:, :2]) * cells[:, 2:]
    half = found[..., 2:4].exp() * cells[:, 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


class YOLOX(nn.Module):
    """Input (B, 3, H, W), H and W multiples of 32; outputs as
    :class:`trtnet.zoo.detection.yolox.YOLOX` has them."""

    def __init__(
        self,
        num_classes: int,
        depth: float,
        width: float,
        depthwise: bool = False,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.65,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = YOLOPAFPN(depth, width, depthwise)
        self.head = YOLOXHead(num_classes, width, depthwise)
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.detections_per_img, self.topk_candidates = detections_per_img, topk_candidates
        self.output_format = output_format

    def found(self, x: torch.Tensor) -> torch.Tensor:
        """What the head gives, (B, N, 5 + classes)."""
        return self.head(self.backbone(x))

    def forward(
        self, x: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        found = self.found(x)
        boxes = decoded(found, cells(*x.shape[-2:]).to(found.device))
        height, width = x.new_tensor(x.shape[-2:]) if image_sizes is None else (
            image_sizes.to(boxes).T[..., None])  # fmt: skip
        limits = torch.stack(torch.broadcast_tensors(width, height, width, height), -1)
        boxes = boxes.clamp(min=0).minimum(limits)
        scores = found[..., 5:].float().sigmoid() * found[..., 4:5].float().sigmoid()
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        images = [self._chosen(*one) for one in zip(boxes, scores, strict=True)]
        return self._outputs([torch.stack(part) for part in zip(*images, strict=True)])

    def _chosen(self, boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The count of detections of one image, and K boxes, scores and classes."""
        best, kinds = scores.max(1)
        order = best.argsort(descending=True, stable=True)[: self.topk_candidates]
        order = order[best[order] > self.score_thresh]
        kept = torch.zeros(len(order), dtype=torch.bool)
        for kind in kinds[order].unique():
            own = (kinds[order] == kind).nonzero()[:, 0]
            at = order[own]
            kept[own[nms(boxes[at], best[at], self.nms_thresh)]] = True
        order = order[kept][: self.detections_per_img]
        result = [torch.zeros(self.detections_per_img, *shape) for shape in ((4,), (), ())]
        for whole, values in zip(result, (boxes, best, kinds), strict=True):
            whole[: len(order)] = values[order]
        return torch.tensor([len(order)], dtype=torch.int32), *result

    def _outputs(self, parts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        count, boxes, scores, kinds = parts
        if self.output_format == "efficientnms":
            return {"num_dets": count, "det_boxes": boxes, "det_scores": scores,
                    "det_classes": kinds.int()}  # fmt: skip
        empty = torch.arange(scores.shape[1]) >= count
        kinds = kinds.masked_fill(empty, -1)
        return {"detections": torch.cat([boxes, scores[..., None], kinds[..., None]], 2)}
