"""Keypoints of detected objects, from the network's heatmaps to places in the image.

He et al., Mask R-CNN, https://arxiv.org/abs/1703.06870, section 5; the steps are those of
torchvision's ``heatmaps_to_keypoints``. NumPy alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trtnet.errors import ShapeError

_CUBIC = -0.75  # PyTorch's coefficient of bicubic interpolation


class Keypoints(NamedTuple):
    """Keypoints of K objects, N each.

    Attributes:
        points: (K, N, 2) float32, x and y in pixels of the image that the boxes are in.
        scores: (K, N) float32: the heatmaps' values there, logits.
    """

    points: np.ndarray
    scores: np.ndarray


def heatmap_keypoints(heatmaps: np.ndarray, boxes: np.ndarray) -> Keypoints:
    """Where each heatmap is highest, once it is as large as its box, rounded up to whole pixels.

    The places are those of torchvision; of values that differ by rounding alone, either may be the
    highest.

    Args:
        heatmaps: (K, N, M, M) logits, such as one image of ``det_keypoints``.
        boxes: (K, 4) corners in pixels of the network's input, in which torchvision looks for the
            highest value; places in the original image are scaled afterwards.

    Raises:
        ShapeError: heatmaps and boxes that do not fit together.
    """
    if heatmaps.ndim != 4 or boxes.shape != (len(heatmaps), 4):
        raise ShapeError("heatmaps and boxes do not fit together",
                         expected="(K, N, M, M) and (K, 4)",
                         got=f"{heatmaps.shape} and {boxes.shape}")  # fmt: skip
    heatmaps, boxes = heatmaps.astype(np.float32), boxes.astype(np.float32)
    points = np.zeros((*heatmaps.shape[:2], 2), np.float32)
    scores = np.zeros(heatmaps.shape[:2], np.float32)
    for maps, box, place, score in zip(heatmaps, boxes, points, scores, strict=True):
        size = np.maximum(box[2:] - box[:2], np.float32(1))
        width, height = np.ceil(size).astype(np.int64).tolist()
        rows, columns = (_cubic_weights(maps.shape[-1], side) for side in (height, width))
        large = rows @ maps @ columns.T
        flat = large.reshape(len(maps), -1)
        at = flat.argmax(1)
        pixel = np.stack([at % width, at // width], 1).astype(np.float32)
        step = size / np.array([width, height], np.float32)
        place[:] = (pixel + np.float32(0.5)) * step + box[:2]
        score[:] = flat[np.arange(len(maps)), at]
    return Keypoints(points, scores)


def _cubic_weights(count: int, size: int) -> np.ndarray:
    """The matrix (size, count) that resizes `count` pixels to `size`, as
    ``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)``."""
    scale = np.float32(count) / np.float32(size)
    place = scale * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    lower = np.floor(place)
    fraction = place - lower
    weights = np.zeros((size, count), np.float32)
    for offset in (-1, 0, 1, 2):
        at = np.clip(lower.astype(np.int64) + offset, 0, count - 1)
        weights[np.arange(size), at] += _cubic(np.abs(fraction - np.float32(offset)))
    return weights


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel: the weight of a pixel at this distance, at most two pixels."""
    a, x = np.float32(_CUBIC), distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    weight: np.ndarray = np.where(x <= 1, near, far)
    return weight
