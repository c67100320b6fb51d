"""Masks in the image, against torchvision's paste_masks_in_image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from trtnet.detection.masks import paste_mask, paste_masks, run_lengths
from trtnet.errors import ShapeError

SIZE = (90, 130)


def boxes_of(rng, count):
    """Of all sizes, down to less than a pixel, some of them partly outside of the image."""
    centre = rng.random((count, 2)) * [SIZE[1], SIZE[0]]
    half = np.exp(rng.uniform(-3, 4, (count, 2)))
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32)


@pytest.mark.parametrize("edge", [28, 14, 5])
def test_masks_are_pasted_as_by_torchvision(edge, rng):
    boxes = boxes_of(rng, 60)
    masks = rng.random((60, edge, edge)).astype(np.float32)
    got = paste_masks(masks, boxes, SIZE)
    tensors = torch.from_numpy(masks)[:, None], torch.from_numpy(boxes)
    wanted = paste_masks_in_image(*tensors, SIZE)[:, 0].numpy()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    clear = np.abs(wanted - 0.5) > 1e-5
    assert ((got >= 0.5) == (wanted >= 0.5))[clear].all()
    assert (got >= 0.5).any(axis=(1, 2)).sum() > 40


def test_a_box_outside_of_the_image_leaves_it_empty():
    mask, target = np.ones((28, 28), np.float32), np.zeros(SIZE, np.float32)
    for box in ([200, 10, 260, 40], [-90, 10, -30, 40], [10, -50, 40, -20], [50, 50, 20, 20]):
        paste_mask(mask, np.array(box, np.float32), target)
    assert not target.any()


def test_no_mask():
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), SIZE).shape == (0, *SIZE)


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"\(K, M, M\) and \(K, 4\)"):
        paste_masks(np.zeros((2, 28, 28)), np.zeros((3, 4)), SIZE)
    with pytest.raises(ShapeError, match=r"\(M, M\) and \(4,\)"):
        paste_mask(np.zeros((28, 27)), np.zeros(4), np.zeros(SIZE))


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (1, 9), (31, 47), (0, 5)])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
def test_run_lengths_are_read_by_pycocotools(size, density, rng):
    coding = pytest.importorskip("pycocotools.mask")
    mask = rng.random(size) < density
    found = run_lengths(mask)
    assert sum(found["counts"]) == mask.size
    assert json.loads(json.dumps(found)) == found
    decoded = coding.decode(coding.frPyObjects(found, *size))
    assert np.array_equal(decoded.astype(bool), mask)
    again = coding.encode(np.asfortranarray(mask.astype(np.uint8)))
    if mask.size:
        assert coding.frPyObjects(found, *size) == again


@pytest.mark.parametrize("mask", [np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), bool)])
def test_run_lengths_of_something_else(mask):
    with pytest.raises(ShapeError, match=r"bool \(height, width\)"):
        run_lengths(mask)
