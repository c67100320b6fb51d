"""Areas and overlaps of boxes: corners (x1, y1, x2, y2) along the last axis, in float32."""

from __future__ import annotations

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops.elementwise import clamp_min
from trtnet.ops.joining import unbind
from trtnet.ops.pointwise import binary
from trtnet.ops.shape import unsqueeze
from trtnet.tensor import Tensor, same_size


def box_area(boxes: Tensor) -> Tensor:
    """The areas (…,) of boxes (…, 4), float32; that of a box whose corners are exchanged is
    negative, as with ``torchvision.ops.box_area``."""
    x1, y1, x2, y2 = _sides(boxes)
    return (x2 - x1) * (y2 - y1)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union (…, N, M) of boxes (…, N, 4) and (…, M, 4), float32; 0/0, which is
    NaN, for two boxes without area.

    The operations and their order are those of ``torchvision.ops.nms``.
    """
    first = [unsqueeze(side, -1) for side in _sides(boxes1)]
    second = [unsqueeze(side, -2) for side in _sides(boxes2)]
    left, top = (binary("corner", "MAX", first[i], second[i]) for i in (0, 1))
    right, bottom = (binary("corner", "MIN", first[i], second[i]) for i in (2, 3))
    shared = clamp_min(right - left, 0.0) * clamp_min(bottom - top, 0.0)
    areas = unsqueeze(box_area(boxes1), -1), unsqueeze(box_area(boxes2), -2)
    return shared / (areas[0] + areas[1] - shared)


def overlaps(iou: Tensor, threshold: float) -> Tensor:
    """Where `iou`, float32, is above `threshold` as a real number: float32 may have no such number,
    and the next one below it then decides the same.

    Raises:
        UsageError: a threshold outside of 0..1.
    """
    return iou > below(fraction("iou_threshold", threshold))


def below(value: float) -> float:
    """The largest float32 that is not above `value`."""
    near = np.float32(value)
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))


def fraction(name: str, value: float) -> float:
    """`value`, a number of 0..1.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError(f"{name} is a fraction", expected="a number of 0..1", got=repr(value))
    return float(value)


def _sides(boxes: Tensor) -> tuple[Tensor, ...]:
    if not boxes.ndim or not same_size(boxes.shape[-1], 4):
        raise ShapeError("boxes have four corners", expected="(..., 4)", got=boxes.shape)
    return unbind(boxes.to(float32), -1)
