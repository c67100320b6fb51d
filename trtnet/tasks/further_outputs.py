"""What a detector gives beside boxes, in the original image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trtnet.detection.keypoints import heatmap_keypoints
from trtnet.detection.masks import PrototypeMasks, paste_mask
from trtnet.detection.reading import (
    COEFFICIENTS,
    KEYPOINTS,
    MASKS,
    POINTS,
    PROTOTYPES,
    FoundBoxes,
)
from trtnet.imaging import Placement


def mask_in_image(
    place: int,
    frames: np.ndarray,
    squares: np.ndarray | None,
    prototypes: PrototypeMasks | None,
    size: tuple[int, int],
) -> np.ndarray:
    """The probability at each pixel of the image that it shows the object, (H, W) float32.

    Args:
        place: which of the n objects.
        frames: (n, 4) boxes in pixels of the image, before they were clipped to it.
        squares: (n, M, M) probabilities in the boxes; or `prototypes`.
        size: height and width of the image.
    """
    pasted = np.zeros(size, np.float32)
    if squares is not None:
        paste_mask(squares[place], frames[place], pasted)
    elif prototypes is not None:
        prototypes.paste(place, frames[place], pasted)
    return pasted


def squares_of(outputs: Mapping[str, np.ndarray], found: FoundBoxes) -> np.ndarray | None:
    """Masks in the boxes, (n, M, M) float32; ``None`` where there are none; arguments as of
    :func:`keypoints_in_image`."""
    return outputs[MASKS][found.places].astype(np.float32) if MASKS in outputs else None


def keypoints_in_image(
    outputs: Mapping[str, np.ndarray], found: FoundBoxes, placed: Placement
) -> np.ndarray | None:
    """Keypoints in the image, (n, N, 3) float64, of the points or the heatmaps of all K places;
    ``None`` where there are neither.

    Args:
        outputs: by name, of one image, without the batch axis.
        found: in which places the n objects are.
        placed: where in the network's input the image is.
    """
    if POINTS in outputs:
        given = outputs[POINTS][found.places]
        points, scores = given[..., :2], given[..., 2]
    elif KEYPOINTS in outputs:
        points, scores = heatmap_keypoints(outputs[KEYPOINTS][found.places], found.boxes)
    else:
        return None
    return np.concatenate([placed.to_image(points), scores[..., None]], -1)


def prototypes_in_image(
    outputs: Mapping[str, np.ndarray], found: FoundBoxes, placed: Placement
) -> PrototypeMasks | None:
    """Masks of the coefficients of all K places, ``None`` where there are none; arguments as of
    :func:`keypoints_in_image`."""
    if COEFFICIENTS not in outputs:
        return None
    height, width = placed.size
    extent = placed.to_image([0, 0, width, height])
    coefficients = outputs[COEFFICIENTS][found.places].astype(np.float32)
    return PrototypeMasks(coefficients, outputs[PROTOTYPES].astype(np.float32), extent)
