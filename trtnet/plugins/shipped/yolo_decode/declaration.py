"""Declares the plugin yolo_decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.plugins.decorator import plugin
from trtnet.plugins.shipped.triton_launch import TritonLaunch, embedded
from trtnet.plugins.shipped.yolo_decode import native
from trtnet.plugins.shipped.yolo_decode.head import STYLES, Anchors, classes_of
from trtnet.tensor import Tensor

if TYPE_CHECKING:
    from trtnet.plugins.examples import Draw
    from trtnet.plugins.spec import TensorSpec


def _launch(plugin: Any, head: TensorSpec, boxes: TensorSpec, scores: TensorSpec) -> TritonLaunch:
    from trtnet.plugins.shipped.yolo_decode.kernel import plan

    shapes = {"head": head.shape, "boxes": boxes.shape, "scores": scores.shape}
    return plan(shapes, *_arguments(plugin)).only


def _arguments(plugin: Any) -> tuple[str, float, Anchors, int]:
    """Returns the arguments that follow the head in all three forms."""
    sizes = plugin.anchors
    if len(sizes) % 2:
        raise UsageError("anchors are a width and a height for each", got=sizes)
    anchors = tuple(zip(sizes[::2], sizes[1::2], strict=True))
    return plugin.style, plugin.stride, anchors, plugin.bins


@plugin("trtnet::yolo_decode")
class YoloDecode:
    """Boxes and scores from the raw map of one YOLO detection head.

    Called with a head (N, C, H, W), float32 or float16, it gives boxes (N, A * H * W, 4) as left,
    top, right, bottom in pixels of the image, and scores (N, A * H * W, classes), both in the
    head's type: float16 holds whole pixels up to 2048. Boxes are neither sorted nor suppressed.

    Args:
        style: ``"yolov3"`` (also YOLOv4), ``"yolov5"`` (also YOLOv7), ``"yolox"`` or ``"yolov8"``
            (also YOLOv9 and YOLO11).
        stride: pixels of the image per pixel of the map.
        anchors: width, height, width, ... of the A anchors, in pixels of the image; none for
            ``"yolox"`` and ``"yolov8"``, where A is 1.
        bins: for ``"yolov8"``, the number of distances in a distribution.

    >>> import trtnet
    >>> net = trtnet.Network("rtx")
    >>> boxes, scores = YoloDecode("yolov8", stride=8)(net.input("head", ("N", 144, 80, 80)))
    >>> boxes.shape, scores.shape
    ((N, 6400, 4), (N, 6400, 80))
    """

    style: str
    stride: float
    anchors: tuple[float, ...] = ()
    bins: int = 16

    formats = (("fp32", "->", "fp32", "fp32"), ("fp16", "->", "fp16", "fp16"))
    kernel = embedded("trtnet.plugins.shipped.yolo_decode.kernel:_yolo_decode", _launch)

    def outputs(self, head: TensorSpec) -> tuple[TensorSpec, TensorSpec]:
        """Returns the specs of boxes, (N, A * H * W, 4), and scores, (N, A * H * W, classes)."""
        style, _, anchors, bins = _arguments(self)
        n, channels, height, width = head.shape
        classes = classes_of(int(channels), style, anchors, bins)
        places = height * width * (len(anchors) or 1)
        return head.like((n, places, 4)), head.like((n, places, classes))

    def reference(self, head: Any) -> Any:
        """Computes boxes and scores in PyTorch."""
        from trtnet.plugins.shipped.yolo_decode.reference import yolo_decode

        return yolo_decode(head, *_arguments(self))

    def native(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """Computes boxes and scores by TensorRT's layers."""
        return native.yolo_decode(head, *_arguments(self))

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        """Returns a plugin with a random style, and a random head."""
        style, classes, bins = draw.choice(*STYLES), draw.choice(1, 3, 80), draw.choice(16, 9)
        anchors = {"yolov3": (10, 13, 16, 30, 33, 23), "yolov5": (10, 13, 16, 30)}.get(style, ())
        each = 4 * bins + classes if style == "yolov8" else 5 + classes
        channels = each * (len(anchors) // 2 or 1)
        head = draw.array(draw.size(), channels, max(1, draw.size()), max(1, draw.size()))
        return cls(style, stride=8, anchors=anchors, bins=bins), [head]
