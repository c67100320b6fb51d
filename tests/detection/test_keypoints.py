"""Keypoints from heatmaps, against torchvision's heatmaps_to_keypoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from trtnet.detection.keypoints import heatmap_keypoints
from trtnet.errors import ShapeError


def test_keypoints_are_torchvisions(rng):
    centre = rng.random((25, 2)) * 200
    half = np.exp(rng.uniform(-2, 5, (25, 2)))  # smaller and larger than the heatmaps
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    boxes[0, 2:] = boxes[0, :2]  # without area
    heatmaps = rng.standard_normal((25, 17, 56, 56)).astype(np.float32)
    got = heatmap_keypoints(heatmaps, boxes)
    places, scores = heatmaps_to_keypoints(torch.from_numpy(heatmaps), torch.from_numpy(boxes))
    np.testing.assert_allclose(got.points, places[..., :2].numpy(), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(got.scores, scores.numpy(), rtol=1e-5, atol=1e-5)
    assert got.points.dtype == got.scores.dtype == np.float32


def test_no_object():
    got = heatmap_keypoints(np.zeros((0, 17, 56, 56)), np.zeros((0, 4)))
    assert got.points.shape == (0, 17, 2)
    assert got.scores.shape == (0, 17)


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"\(K, N, M, M\) and \(K, 4\)"):
        heatmap_keypoints(np.zeros((2, 17, 56, 56)), np.zeros((3, 4)))
