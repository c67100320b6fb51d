"""YOLOv3 and YOLOv4, and any detector that a description of darknet's names layer by layer.

Redmon and Farhadi, YOLOv3: An Incremental Improvement, https://arxiv.org/abs/1804.02767.
Bochkovskiy et al., YOLOv4: Optimal Speed and Accuracy of Object Detection,
https://arxiv.org/abs/2004.10934.

Keys are ``layers.N.conv`` and ``layers.N.bn``, N as darknet counts. ``.weights`` files are read by
:mod:`trtnet.weights.darknet`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn, ops
from trtnet.detection import Suppression, checked_output_format, detections, output_tensors
from trtnet.detection.anchors import grid_points
from trtnet.detection.coding import clip_to_image, image_size
from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UsageError
from trtnet.nn import functional as F
from trtnet.reading.darknet import Section, read_cfg
from trtnet.weights.darknet_layers import Layer, planned
from trtnet.zoo.detection.darknet_models import DESCRIPTIONS
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

COCO = 80
"""Classes of the published weights."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "mish": F.mish,
    "relu": F.relu,
    "swish": F.silu,
    "logistic": F.sigmoid,
}


class Convolution(nn.Module):
    """A convolution, its batch normalisation if it has one, and what it ends in."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        size, stride, padding, groups = layer.kernel
        self.conv = nn.Conv2d(layer.in_channels, layer.channels, size, stride, padding,
                              groups=groups, bias=not layer.has_norm)  # fmt: skip
        if layer.has_norm:
            self.bn = nn.BatchNorm2d(layer.channels)
        self.has_norm, self.activation = layer.has_norm, layer.activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return _ACTIVATIONS[self.activation](self.bn(x) if self.has_norm else x)


class MaxPool(nn.Module):
    """The largest values of windows that reach beyond the map: by (size - 1) // 2 at the top and
    left, and by the rest at the bottom and right. Repeated edges change no maximum."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.stride = layer.section.number("stride", 1)
        self.size = layer.section.number("size", self.stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.size == self.stride:  # maps are multiples of it
            return F.max_pool2d(x, self.size, self.stride)
        if self.size % 2:
            return F.max_pool2d(x, self.size, self.stride, self.size // 2)
        near, far = (self.size - 1) // 2, self.size // 2
        return F.max_pool2d(F.pad(x, (near, far, near, far), "replicate"), self.size, self.stride)


class Upsample(nn.Module):
    """Every cell repeated."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.times = float(layer.section.number("stride", 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.times)


class Route(nn.Module):
    """Channels of several layers one after the other, or a part of them."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.count = layer.channels
        self.first = layer.section.number("group_id", 0) * layer.channels
        self.whole = layer.channels == layer.in_channels

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = inputs if self.whole else [self._part(x) for x in inputs]
        return parts[0] if len(parts) == 1 else ops.cat([*parts], 1)

    def _part(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.first + self.count]


class Shortcut(nn.Module):
    """The sum of layers."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.activation = layer.activation

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        return _ACTIVATIONS[self.activation](first)


class Head(nn.Module):
    """Boxes (B, N, 4), corners in pixels, and scores (B, N, classes) of one level, both float32.

    A score is that of an object times that of the class.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        sizes = layer.section.numbers("anchors")
        self.anchors = [(sizes[2 * int(n)], sizes[2 * int(n) + 1])
                        for n in layer.section.numbers("mask")]  # fmt: skip
        (self.scale,) = layer.section.numbers("scale_x_y", (1.0,))
        self.stride = layer.stride

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.to(float32).flatten(2).transpose(1, 2)  # (B, H·W, anchors · (5 + classes))
        grid = grid_points(x, (self.stride, self.stride)).unsqueeze(0)
        count = rows.shape[2]
        assert isinstance(count, int)
        width = count // len(self.anchors)
        boxes, scores = [], []
        for number, anchor in enumerate(self.anchors):
            own = rows[:, :, number * width : (number + 1) * width]
            shift = F.sigmoid(own[:, :, :2]) * self.scale - (self.scale - 1) / 2
            centre = shift * float(self.stride) + grid
            half = ops.exp(own[:, :, 2:4]) * x.network.constant(_halves(anchor))
            boxes.append(ops.cat([centre - half, centre + half], 2))
            scores.append(F.sigmoid(own[:, :, 4:5]) * F.sigmoid(own[:, :, 5:]))
        return ops.cat(boxes, 1), ops.cat(scores, 1)


def _halves(anchor: tuple[float, float]) -> Any:
    import numpy as np

    return (np.array(anchor, np.float32) / 2).reshape(1, 1, 2)


_KINDS: dict[str, Callable[[Layer], nn.Module]] = {
    "convolutional": Convolution,
    "maxpool": MaxPool,
    "upsample": Upsample,
    "route": Route,
    "shortcut": Shortcut,
    "yolo": Head,
}


class Darknet(nn.Module):
    """Input (B, channels, H, W), height and width multiples of the largest stride, and with
    `image_sizes` (B, 2) int32, the height and width of each image inside of it; outputs see
    :mod:`trtnet.detection.formats`.

    Args:
        sections: of the description.
        how: candidates and suppression.
        output_format, image_sizes: as for the builders.

    Raises:
        UsageError: a description with something that is unknown here, or without a ``[yolo]``.
    """

    def __init__(
        self, sections: Sequence[Section], how: Suppression, output_format: str, image_sizes: bool
    ) -> None:
        super().__init__()
        self.plan = planned(sections)
        heads = [layer for layer in self.plan if layer.kind == "yolo"]
        if not heads or len({layer.section.number("classes") for layer in heads}) > 1:
            raise sections[0].refuse("a detector has [yolo] layers of one number of classes",
                                     got=f"{len(heads)} [yolo] layers")  # fmt: skip
        self.layers = nn.ModuleList([_KINDS[layer.kind](layer) for layer in self.plan])
        self.how = how
        self.output_format, self.image_sizes = checked_output_format(output_format), image_sizes

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        self._check_size(images)
        levels = self._levels(images)
        boxes = ops.cat([level[0] for level in levels], 1)
        scores = ops.cat([level[1] for level in levels], 1)
        boxes = clip_to_image(boxes, image_size(images, image_sizes))
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        return output_tensors(detections(boxes, scores, self.how), self.output_format)

    def _levels(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Boxes and scores of each ``[yolo]``, whose input a later layer may take as well."""
        made: list[Tensor] = []
        levels = []
        for layer, module in zip(self.plan, self.layers, strict=True):
            inputs = [made[source] if source >= 0 else images for source in layer.sources]
            if layer.kind == "yolo":
                levels.append(module(*inputs))
                made.append(inputs[0])
            else:
                made.append(module(*inputs))
        return levels

    def _check_size(self, images: Tensor) -> None:
        multiple = max(layer.stride for layer in self.plan)
        for size in images.shape[2:]:
            if isinstance(size, int) and size % multiple:
                raise ShapeError("the network halves its input, and enlarges it again",
                                 expected=f"height and width that are multiples of {multiple}",
                                 got=images.shape)  # fmt: skip


def _sections(name: str, num_classes: int, cfg: str | os.PathLike[str] | None) -> Sequence[Section]:
    """The description of a model, or the one in the file `cfg`."""
    if cfg is None:
        return DESCRIPTIONS[name](num_classes)
    sections = read_cfg(cfg)
    told = {section.number("classes") for section in sections if section.kind == "yolo"}
    if num_classes not in (COCO, *told):
        raise UsageError(
            f"{cfg} describes a network of another number of classes",
            expected=" or ".join(map(str, sorted(told))) or "a [yolo] layer",
            got=f"num_classes={num_classes}",
            fix="leave num_classes out, with cfg= the file says it",
        )
    return sections


def _twin(
    name: str, num_classes: int = COCO, cfg: str | os.PathLike[str] | None = None, **others: Any
) -> torch.nn.Module:
    from trtnet.zoo.detection import torch_darknet

    return torch_darknet.Darknet(_sections(name, num_classes, cfg), **others)


def _model(name: str, edge: int, preprocessing: dict[str, Any]) -> Callable[..., Darknet]:
    """Registers a model with an input of `edge` by default."""

    def builder(
        num_classes: int = COCO,
        cfg: str | os.PathLike[str] | None = None,
        score_thresh: float = 0.005,
        nms_thresh: float = 0.45,
        detections_per_img: int = 100,
        topk_candidates: int = 1000,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> Darknet:
        how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
        return Darknet(_sections(name, num_classes, cfg), how, output_format, image_sizes)

    title = name.replace("yolov", "YOLOv").replace("_", "-")
    paper = "2004.10934" if "v4" in name else "1804.02767"
    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = f"""{title}, https://arxiv.org/abs/{paper}.

    Thresholds are those of darknet's evaluation.

    Args:
        num_classes: without a background.
        cfg: a description of darknet's, whose network is made in place of this one.
        score_thresh: boxes with no higher score are dropped.
        nms_thresh: of two boxes of a class that overlap by more, the worse is dropped.
        detections_per_img: how many an image has at most.
        topk_candidates: how many boxes of an image take part in suppression.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    register(input_shape=(3, edge, edge), twin=functools.partial(_twin, name), task="detection",
             preprocessing=preprocessing)(builder)  # fmt: skip
    return builder


def _letterbox(edge: int) -> dict[str, Any]:
    """How darknet prepares images for YOLOv3: levels of 0 to 1, gray around them."""
    return {"letterbox_size": [edge, edge], "pad_color": 128, "antialias": False}


def _stretched(edge: int) -> dict[str, Any]:
    """How darknet prepares images for YOLOv4: stretched, levels of 0 to 1."""
    return {"resize_size": [edge, edge], "interpolation": "bilinear", "antialias": False}


yolov3 = _model("yolov3", 608, _letterbox(608))
yolov3_tiny = _model("yolov3_tiny", 416, _letterbox(416))
yolov4 = _model("yolov4", 608, _stretched(608))
yolov4_tiny = _model("yolov4_tiny", 416, _stretched(416))
