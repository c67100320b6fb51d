"""Boxes relative to others: what a detector's outputs mean. All is computed in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.detection.distances import boxes_around, halves
from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops.elementwise import clamp_max, clamp_min
from trtnet.ops.exponential import exp
from trtnet.ops.joining import cat, stack, unbind
from trtnet.ops.operands import as_tensor
from trtnet.ops.pointwise import binary
from trtnet.ops.shape import reshape, unsqueeze
from trtnet.tensor import Tensor, same_size

LARGEST_LOG = math.log(1000.0 / 16)
"""The logarithm of the largest growth of a box by decoding: an anchor of 16 pixels to 1000."""

UNIT = (1.0, 1.0, 1.0, 1.0)
SSD = (10.0, 10.0, 5.0, 5.0)
"""Weights of the box coder of SSD, and of the second stage of Faster R-CNN."""


def decode_boxes(
    codes: Tensor, boxes: Tensor, weights: Sequence[float] = UNIT, largest_log: float = LARGEST_LOG
) -> Tensor:
    """Corners (…, 4) float32: what ``torchvision.models.detection._utils.BoxCoder`` decodes.

    Args:
        codes: (…, 4): the centre's shifts in x and y, in widths and heights of the box, and the
            logarithms of the growth of width and height, each times its weight.
        boxes: (…, 4) corners that they are relative to; its shape broadcasts with the codes'.
        weights: of the four numbers.
        largest_log: the logarithms of growth are at most this.

    Raises:
        ShapeError: other last axes.
        UsageError: not four positive weights.
    """
    _check_four(codes=codes, boxes=boxes)
    if len(weights) != 4 or not all(weight > 0 for weight in weights):
        raise UsageError("weights of a box coder", expected="4 positive numbers", got=repr(weights))
    near, far = halves(boxes.to(float32))
    sides = far - near
    centers = near + sides * 0.5
    if tuple(weights) != UNIT:
        codes = codes.to(float32) / codes.network.constant(np.array(weights, np.float32))
    shifts, growth = halves(codes.to(float32))
    centers = shifts * sides + centers
    half = exp(clamp_max(growth, largest_log)) * sides * 0.5
    return cat([centers - half, centers + half], -1)


def decode_linear(codes: Tensor, boxes: Tensor, normalize_by_size: bool = True) -> Tensor:
    """Corners (…, 4) float32: what ``torchvision.models.detection._utils.BoxLinearCoder`` decodes.

    Args:
        codes: (…, 4) distances from the centre of a box to the left, top, right and bottom.
        boxes: (…, 4) corners; its shape broadcasts with the codes'.
        normalize_by_size: whether the unit of the distances is the box's width and height.

    Raises:
        ShapeError: other last axes.
    """
    _check_four(codes=codes, boxes=boxes)
    near, far = halves(boxes.to(float32))
    codes = codes.to(float32)
    if normalize_by_size:
        sides = far - near
        codes = codes * cat([sides, sides], -1)
    return boxes_around((near + far) * 0.5, codes)


def clip_to_image(boxes: Tensor, size: Sequence[Any] | Tensor) -> Tensor:
    """Boxes, float32, whose corners lie inside of their images.

    Args:
        boxes: (B, …, 4) corners in pixels.
        size: (height, width) of all images, ints or Dims; or a tensor (B, 2) with those of each.

    Raises:
        ShapeError: `boxes` or a tensor of sizes of another shape.
    """
    _check_four(boxes=boxes)
    limits = _limits(size, boxes)
    return binary("clip", "MIN", clamp_min(boxes.to(float32), 0.0), limits)


def image_size(image: Tensor, image_sizes: Tensor | None) -> Sequence[Any] | Tensor:
    """The size to clip to: `image_sizes` where a network has this input, else that of `image`,
    (B, C, height, width)."""
    return image.shape[-2:] if image_sizes is None else image_sizes


def _limits(size: Sequence[Any] | Tensor, boxes: Tensor) -> Tensor:
    """The largest x, y, x, y of `boxes`, of as many axes."""
    network, rank = boxes.network, boxes.ndim
    if isinstance(size, Tensor):
        if size.ndim != 2 or not same_size(size.shape[1], 2):
            raise ShapeError("sizes of images are height and width", expected="(B, 2)",
                             got=size.shape)  # fmt: skip
        height, width = unbind(size.to(float32), 1)
        ones = [1] * (rank - 2)
        return reshape(stack([width, height, width, height], -1), size.shape[0], *ones, 4)
    height, width = size
    if isinstance(height, int) and isinstance(width, int):
        values = np.array([width, height, width, height], np.float32)
        return network.constant(values.reshape(*[1] * (rank - 1), 4))
    sides = [as_tensor(each, boxes, align=False).to(float32) for each in (width, height)]
    sizes = [side if isinstance(side, Tensor) else network.constant(side) for side in sides]
    limits = stack([*sizes, *sizes])
    for _ in range(rank - 1):
        limits = unsqueeze(limits, 0)
    return limits


def _check_four(**tensors: Tensor) -> None:
    for name, x in tensors.items():
        if not x.ndim or not same_size(x.shape[-1], 4):
            raise ShapeError(f"{name} have four numbers each", expected="(..., 4)", got=x.shape)
