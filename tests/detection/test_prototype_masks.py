"""Masks that are sums of prototypes, in images, against ``torch.nn.functional.grid_sample``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.detection import PrototypeMasks
from trtnet.imaging import placement

LETTERBOXES = [
    ((90, 60), {"letterbox_size": 64}),
    ((41, 97), {"letterbox_size": [64, 96], "pad_position": "top-left"}),
    ((30, 20), {"letterbox_size": 64, "upscale": False}),
    ((200, 333), {"letterbox_size": 64}),
]


def prototypes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (3, 5), and smooth prototypes (5, height, width)."""
    rng = np.random.default_rng(height)
    coarse = torch.from_numpy(rng.standard_normal((1, 5, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return rng.standard_normal((3, 5)).astype(np.float32), smooth[0].numpy() * 3


def by_torch(
    coefficients: np.ndarray, protos: np.ndarray, boxes: np.ndarray, size: tuple[int, int],
    extent: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(n, H, W) probabilities: all prototypes at all pixels of the image, then those outside of the
    boxes left out."""
    logits = torch.einsum("np,phw->nhw", torch.from_numpy(coefficients), torch.from_numpy(protos))
    y, x = (torch.arange(edge, dtype=torch.float64) + 0.5 for edge in size)
    left, top, right, bottom = extent
    grid = torch.stack(torch.meshgrid((x - left) / (right - left), (y - top) / (bottom - top),
                                      indexing="xy"), -1)  # fmt: skip
    pixels = torch.nn.functional.grid_sample(
        logits.sigmoid()[None].double(), grid[None] * 2 - 1, padding_mode="border",
        align_corners=False,
    )[0].numpy()  # fmt: skip
    x1, y1, x2, y2 = boxes.T[:, :, None, None]
    x, y = x.numpy()[None, None], y.numpy()[None, :, None]
    return np.where((x >= x1) & (x < x2) & (y >= y1) & (y < y2), pixels, 0)


@pytest.mark.parametrize(("size", "rules"), LETTERBOXES)
def test_masks_are_those_of_pytorch(size: tuple[int, int], rules: dict[str, Any]) -> None:
    """Boxes inside of the image, across its border, and outside of it."""
    placed = placement(size, rules)
    height, width = placed.size
    extent = placed.to_image([0, 0, width, height])
    coefficients, protos = prototypes(height // 4, width // 4)
    across, down = size
    boxes = np.array([[3.2, 2.5, across - 4.4, down - 3.5], [-9, -7, across / 2, down + 20],
                      [across + 3, 2, across + 9, 8]])  # fmt: skip
    masks = PrototypeMasks(coefficients, protos, extent)
    found = np.zeros((3, down, across), np.float32)
    for place, (box, target) in enumerate(zip(boxes, found, strict=True)):
        masks.paste(place, box, target)
    expected = by_torch(coefficients, protos, boxes, (down, across), extent)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 0.1 < (expected[0] > 0.5).mean() < 0.9
    assert not expected[2].any()


def test_a_box_that_is_the_prototypes_own_area() -> None:
    """Where a pixel of the image is a pixel of the prototypes nothing is between."""
    coefficients, protos = prototypes(8, 8)
    masks = PrototypeMasks(coefficients, protos, np.array([0, 0, 8, 8]))
    target = np.zeros((8, 8), np.float32)
    masks.paste(1, np.array([0, 0, 8, 8]), target)
    logits = np.einsum("p,phw->hw", coefficients[1], protos)
    np.testing.assert_allclose(target, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    protos = np.array([[[-1e5, 1e5]]], np.float32)
    target = np.zeros((1, 2), np.float32)
    with np.errstate(all="raise", under="ignore"):
        PrototypeMasks(np.ones((1, 1), np.float32), protos, np.array([0, 0, 2, 1])).paste(
            0, np.array([0, 0, 2, 1]), target
        )
    assert target.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 5), (4, 8, 8), (4,)),
        ((3, 5), (5, 8), (4,)),
        ((5,), (5, 8, 8), (4,)),
        ((3, 5), (5, 8, 8), (2,)),
    ],
)
def test_what_does_not_fit(shapes: tuple[Any, Any, Any]) -> None:
    with pytest.raises(trtnet.ShapeError, match=r"\(n, P\), \(P, height, width\) and \(4,\)"):
        PrototypeMasks(*(np.zeros(shape, np.float32) for shape in shapes))
