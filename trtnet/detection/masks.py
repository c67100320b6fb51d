"""Masks of detected objects: from what the network gives to the whole image, and to COCO's run
lengths.

A network gives squares of probabilities in the boxes (He et al., Mask R-CNN,
https://arxiv.org/abs/1703.06870, section 3.1; the steps are those of torchvision's
``paste_masks_in_image``), or prototypes, of which masks are sums (Bolya et al., YOLACT,
https://arxiv.org/abs/1904.02689, section 3.1). NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.errors import ShapeError

_BORDER = 1  # pixels of zero around a mask, so that its edge fades out inside of the image


def paste_masks(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The probability at each pixel of the image that it belongs to the object, (K, H, W) float32;
    zero outside of the object's box. 0.5 is the usual threshold.

    Args:
        masks: (K, M, M) probabilities, such as one image of ``det_masks``.
        boxes: (K, 4) corners in pixels of this image; see :func:`paste_mask`.
        size: height and width of the image.

    Raises:
        ShapeError: masks and boxes that do not fit together.
    """
    if masks.ndim != 3 or boxes.shape != (len(masks), 4):
        raise ShapeError("masks and boxes do not fit together", expected="(K, M, M) and (K, 4)",
                         got=f"{masks.shape} and {boxes.shape}")  # fmt: skip
    pasted = np.zeros((len(masks), *size), np.float32)
    for mask, box, target in zip(masks, boxes, pasted, strict=True):
        paste_mask(mask, box, target)
    return pasted


def paste_mask(mask: np.ndarray, box: np.ndarray, target: np.ndarray) -> None:
    """Writes one mask into `target`, (H, W) float32 zeros: an image with a hundred objects needs
    memory for one of them only.

    Args:
        mask: (M, M) probabilities.
        box: (4,) corners in pixels of the image, such as ``det_boxes`` taken back to it; what lies
            outside of the image is cut off.

    Raises:
        ShapeError: a mask that is no square, another number of corners.
    """
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1] or box.shape != (4,):
        raise ShapeError("a mask and its box", expected="(M, M) and (4,)",
                         got=f"{mask.shape} and {box.shape}")  # fmt: skip
    padded = np.pad(mask.astype(np.float32), _BORDER)
    left, top, right, bottom = _whole_pixels(box.astype(np.float32), len(padded) / len(mask))
    rows, y = _placed(len(padded), top, bottom, target.shape[0])
    columns, x = _placed(len(padded), left, right, target.shape[1])
    target[y, x] = rows @ padded @ columns.T


@dataclass(frozen=True, eq=False)
class PrototypeMasks:
    """Masks of n objects: the sigmoid of a sum of prototypes, within the object's box.

    The probabilities are enlarged to the image, bilinearly and without a border; a pixel belongs to
    a box where its centre lies in it.

    Attributes:
        coefficients: (n, P) float32: what each mask has of each prototype, such as one image of
            ``det_coefficients``.
        prototypes: (P, height, width) float32, such as one image of ``prototypes``.
        extent: (4,) float64: the corners of what the prototypes cover, the network's input, in
            pixels of the image.

    Raises:
        ShapeError: arrays that do not fit together.

    >>> half = np.float32([[[-9, 9]]])
    >>> masks = PrototypeMasks(np.float32([[1]]), half, np.array([0, 0, 4, 2]))
    >>> pasted = np.zeros((2, 4), np.float32)
    >>> masks.paste(0, np.array([0, 1, 4, 2]), pasted)
    >>> (pasted > 0.5).astype(int).tolist()
    [[0, 0, 0, 0], [0, 0, 1, 1]]
    """

    coefficients: np.ndarray
    prototypes: np.ndarray
    extent: np.ndarray

    def __post_init__(self) -> None:
        shapes = self.coefficients.shape, self.prototypes.shape, self.extent.shape
        count = shapes[1][0] if len(shapes[1]) == 3 else None
        if len(shapes[0]) != 2 or shapes[0][1] != count or shapes[2] != (4,):
            raise ShapeError("coefficients, prototypes and what they cover",
                             expected="(n, P), (P, height, width) and (4,)",
                             got=" and ".join(map(str, shapes)))  # fmt: skip

    def paste(self, place: int, box: np.ndarray, target: np.ndarray) -> None:
        """Writes the mask of one object into `target`, (H, W) float32 zeros.

        Args:
            place: which of the n objects.
            box: (4,) corners in pixels of the image.
        """
        count, height, width = self.prototypes.shape
        logits = self.coefficients[place] @ self.prototypes.reshape(count, -1)
        chances = _sigmoid(logits.astype(np.float32)).reshape(height, width)
        left, top, right, bottom = self.extent.tolist()
        rows, y = _covered(height, (top, bottom), (box[1], box[3]), target.shape[0])
        columns, x = _covered(width, (left, right), (box[0], box[2]), target.shape[1])
        target[y, x] = rows @ chances @ columns.T


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """`mask` in COCO's format, as ``pycocotools.mask.frPyObjects`` reads it: ``size``, [height,
    width], and ``counts``, lengths of runs of pixels down one column after another, by turns
    outside and inside of the object; the first run is outside, and may have no pixels.

    Args:
        mask: bool (height, width).

    Raises:
        ShapeError: another shape or type.

    >>> run_lengths(np.array([[True, False, False], [True, True, False]]))
    {'size': [2, 3], 'counts': [0, 2, 1, 1, 2]}
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise ShapeError("a mask", expected="bool (height, width)",
                         got=f"{mask.dtype} {mask.shape}")  # fmt: skip
    pixels = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(pixels, prepend=False))
    counts = np.diff(changes, prepend=0, append=len(pixels)).tolist()
    return {"size": [*mask.shape], "counts": counts}


def _whole_pixels(box: np.ndarray, scale: float) -> tuple[int, ...]:
    """The corners of a box that is `scale` times as large, cut to integers towards zero."""
    low, high = box[:2], box[2:]
    half = (high - low) * np.float32(0.5) * np.float32(scale)
    middle = (high + low) * np.float32(0.5)
    left, top = (middle - half).astype(np.int64).tolist()
    right, bottom = (middle + half).astype(np.int64).tolist()
    return left, top, right, bottom


def _placed(count: int, first: int, last: int, limit: int) -> tuple[np.ndarray, slice]:
    """Where the pixels `first` to `last`, both included, lie on an axis of the image, and the
    weights of the `count` pixels of a mask in each of them, as (pixels, count)."""
    begin, end = max(first, 0), max(min(last + 1, limit), max(first, 0))
    weights = _linear_weights(count, max(last - first + 1, 1), begin - first, end - first)
    return weights, slice(begin, end)


def _linear_weights(count: int, size: int, begin: int, end: int) -> np.ndarray:
    """Rows `begin` to `end` of the matrix that resizes `count` pixels to `size`, as
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``."""
    scale = np.float32(count) / np.float32(size)
    place = scale * (np.arange(begin, end, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    return _weights_at(place, count)


def _covered(
    count: int, extent: tuple[float, float], side: tuple[float, float], limit: int
) -> tuple[np.ndarray, slice]:
    """The pixels of an axis of `limit` pixels whose centres lie on `side`, and in each of them the
    weights of `count` values that `extent` is divided into, as (pixels, count)."""
    first, last = (int(np.clip(np.ceil(end - 0.5), 0, limit)) for end in side)
    centres = np.arange(first, last) + 0.5
    place = (centres - extent[0]) / (extent[1] - extent[0]) * count - 0.5
    return _weights_at(place.astype(np.float32), count), slice(first, max(first, last))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """Without an overflow, of finite numbers."""
    small = np.exp(-np.abs(x))
    chances: np.ndarray = np.where(x >= 0, 1, small) / (1 + small)
    return chances


def _weights_at(place: np.ndarray, count: int) -> np.ndarray:
    """The weights of `count` values, linear between them, at places from 0 to count - 1, as
    (places, count); places outside are taken for the nearest end."""
    place = np.maximum(place, np.float32(0))
    lower = np.minimum(place.astype(np.int64), count - 1)
    fraction = (place - lower.astype(np.float32))[:, None]
    pixels = np.arange(count)
    upper = np.minimum(lower + 1, count - 1)
    at_lower, at_upper = pixels == lower[:, None], pixels == upper[:, None]
    weights: np.ndarray = (1 - fraction) * at_lower + fraction * at_upper
    return weights.astype(np.float32)
