"""The native form of yolo_decode, from TensorRT's layers."""

from __future__ import annotations

import numpy as np

from trtnet import ops
from trtnet.dtypes import float32
from trtnet.plugins.shipped.axis_positions import axis_positions
from trtnet.plugins.shipped.yolo_decode.head import Anchors, classes_of
from trtnet.tensor import Tensor


def yolo_decode(
    head: Tensor, style: str, stride: float, anchors: Anchors = (), bins: int = 16
) -> tuple[Tensor, Tensor]:
    """Returns boxes and scores, computed in float32; batch, height and width may be Dims.

    Arguments and results are those of the reference.
    """
    n, channels, height, width = head.shape
    classes = classes_of(channels, style, anchors, bins)
    network, pixels, count = head.network, height * width, len(anchors) or 1
    rows = (
        axis_positions(network, height).reshape(height, 1).expand(height, width).reshape(1, pixels)
    )
    columns = (
        axis_positions(network, width).reshape(1, width).expand(height, width).reshape(1, pixels)
    )
    grid = ops.cat([columns, rows])
    if style == "yolov8":
        maps = head.to(float32).reshape(n, 4 * bins + classes, pixels)
        share = maps[:, : 4 * bins].reshape(n, 4, bins, pixels).softmax(2)
        distance = (share * np.arange(bins, dtype=np.float32)[:, None]).sum(2)
        corners = ops.cat([grid + 0.5 - distance[:, :2], grid + 0.5 + distance[:, 2:]], 1) * stride
        scores = maps[:, 4 * bins :].sigmoid()
        corners, scores = (x.transpose(1, 2).to(head.dtype) for x in (corners, scores))
        return corners, scores
    maps = head.to(float32).reshape(n, count, 5 + classes, pixels)
    place, size, objectness, scores = maps.split([2, 2, 1, classes], 2)
    sizes = np.array(anchors or [(stride, stride)], np.float32)[:, :, None]
    if style == "yolov5":
        centre, size = place.sigmoid() * 2 - 0.5, (size.sigmoid() * 2).square() * sizes
    else:
        centre, size = place.sigmoid() if style == "yolov3" else place, size.exp() * sizes
    centre = (centre + grid) * stride
    corners = ops.cat([centre - size * 0.5, centre + size * 0.5], 2)
    scores = objectness.sigmoid() * scores.sigmoid()
    boxes, scores = (
        x.transpose(2, 3).reshape(n, count * pixels, last).to(head.dtype)
        for x, last in ((corners, 4), (scores, classes))
    )
    return boxes, scores
