"""The networks of :mod:`trtnet.zoo.detection.darknet` in PyTorch, layer by layer. Suppression is
``torchvision.ops.batched_nms``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from trtnet.reading.darknet import Section
from trtnet.weights.darknet_layers import Layer, planned
from trtnet.zoo.detection.torch_outputs import padded

_ENDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "leaky": functools.partial(F.leaky_relu, negative_slope=0.1),
    "mish": F.mish,
    "relu": F.relu,
    "swish": F.silu,
    "logistic": torch.sigmoid,
}


class Convolution(nn.Module):
    """A convolution, its batch normalisation if it has one, and what it ends in."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        size, stride, padding, groups = layer.kernel
        self.conv = nn.Conv2d(layer.in_channels, layer.channels, size, stride, padding,
                              groups=groups, bias=not layer.has_norm)  # fmt: skip
        self.bn = nn.BatchNorm2d(layer.channels) if layer.has_norm else None
        self.end = _ENDS[layer.activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.end(x if self.bn is None else self.bn(x))


class WithoutWeights(nn.Module):
    """A layer of another kind."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.kind, self.section = _KINDS[layer.kind], layer.section

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.kind(inputs, self.section)


class Head(nn.Module):
    """Boxes and scores of a level."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.section = layer.section

    def forward(self, x: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
        return _decoded(x, self.section, stride)


def _module(layer: Layer) -> nn.Module:
    if layer.kind == "convolutional":
        return Convolution(layer)
    return Head(layer) if layer.kind == "yolo" else WithoutWeights(layer)


class Darknet(nn.Module):
    """Input and outputs as :class:`trtnet.zoo.detection.darknet.Darknet` has them."""

    def __init__(
        self,
        sections: Sequence[Section],
        score_thresh: float = 0.005,
        nms_thresh: float = 0.45,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> None:
        super().__init__()
        self.plan = planned(sections)
        self.layers = nn.ModuleList([_module(layer) for layer in self.plan])
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.detections_per_img, self.topk_candidates = detections_per_img, topk_candidates
        self.output_format = output_format

    def forward(
        self, x: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        boxes, scores = self.raw(x)
        height, width = x.new_tensor(x.shape[-2:]) if image_sizes is None else (
            image_sizes.to(boxes).T[..., None])  # fmt: skip
        limits = torch.stack(torch.broadcast_tensors(width, height, width, height), -1)
        boxes = boxes.clamp(min=0).minimum(limits)
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        found = [self._chosen(*one) for one in zip(boxes, scores, strict=True)]
        return padded(found, self.detections_per_img, self.output_format)

    def raw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (B, N, 4) and scores (B, N, classes) of all levels."""
        made: list[torch.Tensor] = []
        levels = []
        for layer, module in zip(self.plan, self.layers, strict=True):
            inputs = [made[source] if source >= 0 else x for source in layer.sources]
            if layer.kind == "yolo":
                levels.append(module(inputs[0], x.shape[-1] // inputs[0].shape[-1]))
                made.append(inputs[0])
            else:
                made.append(module(*inputs))
        return torch.cat([boxes for boxes, _ in levels], 1), torch.cat([s for _, s in levels], 1)

    def _chosen(self, boxes: torch.Tensor, scores: torch.Tensor) -> dict[str, torch.Tensor]:
        best, order = scores.flatten().sort(descending=True, stable=True)
        best, order = best[: self.topk_candidates], order[: self.topk_candidates]
        order, best = order[best > self.score_thresh], best[best > self.score_thresh]
        boxes, labels = boxes[order // scores.shape[1]], order % scores.shape[1]
        kept = batched_nms(boxes, best, labels, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": boxes[kept], "scores": best[kept], "labels": labels[kept]}


def _decoded(x: torch.Tensor, section: Section, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a level's channels mean: for each anchor x, y, width, height, object, classes."""
    anchors = x.new_tensor(section.numbers("anchors")).view(-1, 2)
    anchors = anchors[[int(number) for number in section.numbers("mask")]]
    (scale,) = section.numbers("scale_x_y", (1.0,))
    batch, _, height, width = x.shape
    x = x.view(batch, len(anchors), -1, height, width).permute(0, 1, 3, 4, 2)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([columns, rows], -1).to(x)
    centre = (x[..., :2].sigmoid() * scale - (scale - 1) / 2 + cells) * stride
    size = x[..., 2:4].exp() * anchors[None, :, None, None]
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1).flatten(1, 3)
    return boxes, (x[..., 4:5].sigmoid() * x[..., 5:].sigmoid()).flatten(1, 3)


def _pooled(inputs: Sequence[torch.Tensor], section: Section) -> torch.Tensor:
    """As darknet pools: `size - 1` values are added, the smaller half at the top and left."""
    stride = section.number("stride", 1)
    size = section.number("size", stride)
    near = (size - 1) // 2
    far = size - 1 - near
    wide = F.pad(inputs[0], (near, far, near, far), value=-torch.inf)
    return F.max_pool2d(wide, size, stride)


def _joined(inputs: Sequence[torch.Tensor], section: Section) -> torch.Tensor:
    groups, taken = section.number("groups", 1), section.number("group_id", 0)
    return torch.cat([x.chunk(groups, 1)[taken] for x in inputs], 1)


def _added(inputs: Sequence[torch.Tensor], section: Section) -> torch.Tensor:
    return _ENDS[section.values.get("activation", "linear")](sum(inputs[1:], inputs[0]))


def _enlarged(inputs: Sequence[torch.Tensor], section: Section) -> torch.Tensor:
    return (
        inputs[0]
        .repeat_interleave(section.number("stride", 2), 2)
        .repeat_interleave(section.number("stride", 2), 3)
    )


_KINDS = {"maxpool": _pooled, "route": _joined, "shortcut": _added, "upsample": _enlarged}
