"""The class of each pixel, of the outputs of an engine."""

from __future__ import annotations

import numpy as np

from trtnet.imaging import Placement
from trtnet.tasks.segmenter import class_map_of


def test_classes_of_images_are_not_taken_for_those_of_pixels() -> None:
    """Logits count where the output that is called classes has none of pixels."""
    logits = np.zeros((3, 4, 4), np.float32)
    logits[2, :, 1:] = 1
    placed = Placement((4, 4), (4, 4), (0, 0), (4, 4))
    for other in (np.array([7, 8, 9], np.int32), np.ones((1, 4, 4), np.int32)):
        found = class_map_of({"classes": other, "out": logits}, placed)
        assert found.tolist() == [[0, 2, 2, 2]] * 4
    pixels = np.array([[5, 6], [7, 8]], np.int32)
    placed = Placement((2, 2), (2, 2), (0, 0), (2, 2))
    assert class_map_of({"classes": pixels, "out": logits}, placed).tolist() == pixels.tolist()
