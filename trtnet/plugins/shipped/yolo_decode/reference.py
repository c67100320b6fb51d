"""The reference of yolo_decode, in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.plugins.shipped.yolo_decode.head import Anchors, classes_of


def yolo_decode(
    head: Tensor, style: str, stride: float, anchors: Anchors = (), bins: int = 16
) -> tuple[Tensor, Tensor]:
    """Decodes the raw map of one detection head into boxes and scores.

    Args:
        head: (N, A * (5 + classes), H, W) with x, y, width, height, objectness and classes of each
            of A anchors; for ``"yolov8"`` (N, 4 * bins + classes, H, W) with distributions of the
            distances to the left, top, right and bottom.
        style: ``"yolov3"`` (Redmon and Farhadi 2018, also YOLOv4), ``"yolov5"`` (Ultralytics, also
            YOLOv7), ``"yolox"`` (Ge et al. 2021, without anchors) or ``"yolov8"`` (Ultralytics,
            also YOLOv9 and YOLO11; distances of Li et al. 2020).
        stride: pixels of the image per pixel of the map.
        anchors: width and height of each anchor, in pixels of the image.
        bins: ``"yolov8"``'s number of distances in a distribution.

    Returns:
        Boxes (N, A * H * W, 4) as left, top, right, bottom in pixels of the image, ordered by
        anchor, row and column, and their scores (N, A * H * W, classes).
    """
    n, channels, height, width = head.shape
    classes = classes_of(channels, style, anchors, bins)
    y, x = torch.meshgrid(
        torch.arange(height, device=head.device), torch.arange(width, device=head.device),
        indexing="ij",
    )  # fmt: skip
    grid = torch.stack([x, y]).to(head.dtype)
    if style == "yolov8":
        share = head[:, : 4 * bins].reshape(n, 4, bins, height, width).softmax(2)
        steps = torch.arange(bins, device=head.device, dtype=head.dtype)
        near, far = torch.einsum("nsbhw,b->nshw", share, steps).split(2, 1)
        corners = torch.cat([grid + 0.5 - near, grid + 0.5 + far], 1) * stride
        scores = head[:, 4 * bins :].sigmoid()
        return corners.flatten(2).transpose(1, 2), scores.flatten(2).transpose(1, 2)
    count = len(anchors) or 1
    maps = head.reshape(n, count, 5 + classes, height, width)
    place, size, objectness, scores = maps.split([2, 2, 1, classes], 2)
    sizes = head.new_tensor(anchors or [(stride, stride)])[:, :, None, None]
    if style == "yolov5":
        centre, size = place.sigmoid() * 2 - 0.5, (size.sigmoid() * 2) ** 2 * sizes
    else:
        centre, size = place.sigmoid() if style == "yolov3" else place, size.exp() * sizes
    centre = (centre + grid) * stride
    corners = torch.cat([centre - size / 2, centre + size / 2], 2)
    scores = objectness.sigmoid() * scores.sigmoid()
    corners, scores = (t.flatten(3).transpose(2, 3) for t in (corners, scores))
    return corners.flatten(1, 2), scores.flatten(1, 2)
