"""Palettes, class maps in colour, and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.imaging import color_map, map_of_size, overlay, palette, shares
from trtnet.imaging.pictures import with_legend

# The first 21 colours and the border's, as Pascal VOC's development kit shows them.
VOC = {
    0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128),
    5: (128, 0, 128), 6: (0, 128, 128), 7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0),
    10: (64, 128, 0), 11: (192, 128, 0), 12: (64, 0, 128), 13: (192, 0, 128), 14: (64, 128, 128),
    15: (192, 128, 128), 16: (0, 64, 0), 17: (128, 64, 0), 18: (0, 192, 0), 19: (128, 192, 0),
    20: (0, 64, 128), 255: (224, 224, 192),
}  # fmt: skip


def noise_map(height: int, width: int, classes: int = 21) -> np.ndarray:
    return np.random.default_rng(1).integers(0, classes, (height, width), np.int32)


def test_voc_colors_are_the_published_ones() -> None:
    colors = palette("voc", 256)
    assert {i: tuple(colors[i].tolist()) for i in VOC} == VOC
    assert len(np.unique(colors, axis=0)) == 256


def test_tutorial_colors_follow_its_formula() -> None:
    """In Python's whole numbers, which do not overflow."""
    colors = palette("tutorial", 300)
    for i in range(300):
        assert colors[i].tolist() == [i * (2**n - 1) % 255 for n in (25, 15, 21)]
    assert colors[1].tolist() == [1, 127, 31]


def test_an_unknown_palette(raises: Any) -> None:
    with raises(trtnet.UsageError, "no palette 'cityscapes'", "tutorial, voc"):
        palette("cityscapes", 3)


@pytest.mark.parametrize("size", [(7, 5), (14, 10), (3, 4), (1, 1), (29, 31), (333, 517)])
def test_class_maps_are_resized_as_pillow_and_torch_do(size: tuple[int, int]) -> None:
    import torch

    classes = noise_map(7, 5)
    got = map_of_size(classes, *size)
    assert got.dtype == np.int32
    theirs = Image.fromarray(classes.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(got, np.asarray(theirs))
    tensor = torch.from_numpy(classes)[None, None].double()
    torchs = torch.nn.functional.interpolate(tensor, size, mode="nearest-exact")
    np.testing.assert_array_equal(got, torchs[0, 0].numpy())


def test_shares() -> None:
    classes = noise_map(50, 40, classes=4)
    classes[classes == 2] = 9
    found = shares(classes)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert set(found) == {0, 1, 3, 9}
    for i, share in found.items():
        assert share == np.mean(classes == i)


def test_a_color_map_holds_the_classes(tmp_path: Path) -> None:
    classes, colors = noise_map(30, 20), palette("voc", 21)
    color_map(classes, colors).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), classes)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colors[classes])


def test_more_classes_than_a_palette_holds() -> None:
    classes, colors = noise_map(30, 20, classes=300), palette("tutorial", 300)
    np.testing.assert_array_equal(np.asarray(color_map(classes, colors)), colors[classes])


def test_an_overlay_is_half_grey_image_half_color() -> None:
    classes, colors = noise_map(60, 80), palette("voc", 21)
    pixels = np.random.default_rng(2).integers(0, 256, (60, 80, 3), np.uint8)
    names = {0: "background", 5: "bottle"}
    picture = np.asarray(overlay(Image.fromarray(pixels), classes, colors, names)).astype(float)
    grey = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    wanted = (grey[..., None] + colors[classes]) / 2
    assert np.abs(picture[:60, :80] - wanted).max() <= 1
    legend = picture[60:].reshape(-1, 3)
    for color in (colors[0], colors[5]):
        assert (legend == color).all(1).sum() >= 100  # a swatch of 12 x 12 or more
    assert not (legend == colors[7]).all(1).any()


@pytest.mark.parametrize("size", [(1, 1), (16, 300), (300, 16), (640, 480)])
def test_legends_fit(size: tuple[int, int]) -> None:
    """No entry leaves the picture: the columns at its right edge stay empty paper."""
    entries = [(f"class with number {i}", (0, 0, i)) for i in range(12)]
    picture = np.asarray(with_legend(Image.new("RGB", size, (9, 9, 9)), entries))
    assert picture.shape[1] >= size[0]
    legend = picture[size[1] :]
    assert (legend[:, -1] == 255).all()
    for _, color in entries:
        assert (legend == color).all(2).any()


def test_without_classes_there_is_no_legend() -> None:
    assert with_legend(Image.new("RGB", (20, 10)), []).size == (20, 10)
