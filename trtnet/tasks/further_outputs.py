"""What a detector gives beside boxes, in the original image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trtnet.detection.keypoints import heatmap_keypoints
from trtnet.detection.masks import PrototypeMasks
from trtnet.detection.reading import COEFFICIENTS, KEYPOINTS, POINTS, PROTOTYPES, FoundBoxes
from trtnet.imaging import Placement


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
