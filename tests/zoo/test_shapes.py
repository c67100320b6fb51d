"""The pictures that U-Net is trained on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image

KINDS = ["circle", "rectangle", "triangle", "star"]


def pixels(height: int, width: int) -> np.ndarray:
    """(H, W, 2): x and y of the centres of all pixels."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)


def inside(shape: Any, points: np.ndarray) -> np.ndarray:
    """Which of the points (..., 2) are in `shape`, as matplotlib has it."""
    centre = np.array([shape.x, shape.y])
    if shape.corners is None:
        return ((points - centre) ** 2).sum(-1) < shape.radius**2
    outline = Outline([*shape.corners, shape.corners[0]], closed=True)
    return outline.contains_points(points.reshape(-1, 2)).reshape(points.shape[:-1])


def some(shapes: ModuleType, kind: str, count: int = 8) -> list[Any]:
    rng = np.random.default_rng(3)
    found: list[Any] = []
    while len(found) < count:
        shape = shapes.random_shape(rng, 120, 150)
        found += [shape] if shapes.CLASSES[shape.kind] == kind else []
    return found


def test_a_seed_gives_one_picture(shapes: ModuleType) -> None:
    (image, classes), (again, classes_again) = (shapes.draw((0, 5), 61, 83) for _ in range(2))
    assert image.shape == (61, 83, 3)
    assert classes.shape == (61, 83)
    assert image.dtype == classes.dtype == np.uint8
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(classes, classes_again)
    assert (shapes.draw((0, 6), 61, 83)[0] != image).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_covered_pixels_are_those_inside(kind: str, shapes: ModuleType) -> None:
    for shape in some(shapes, kind):
        found = np.zeros((120, 150), bool)
        window, covered = shapes.coverage(shape, 120, 150)
        found[window] = covered > 0.5
        np.testing.assert_array_equal(found, inside(shape, pixels(120, 150)))


@pytest.mark.parametrize("kind", KINDS)
def test_areas(kind: str, shapes: ModuleType) -> None:
    fine = np.stack(np.meshgrid(*[np.arange(-100, 270, 0.25)] * 2), -1)
    for shape in some(shapes, kind, count=3):
        assert shape.area == pytest.approx(inside(shape, fine).sum() / 16, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_distances(kind: str, shapes: ModuleType) -> None:
    """Against the nearest of many points on the outline."""
    shape = some(shapes, kind, count=1)[0]
    if shape.corners is None:
        angle = np.linspace(0, 2 * np.pi, 4000)[:, None]
        outline = (shape.x, shape.y) + shape.radius * np.hstack([np.cos(angle), np.sin(angle)])
    else:
        t = np.linspace(0, 1, 400)[:, None, None]
        edges = np.roll(shape.corners, -1, 0) - shape.corners
        outline = (shape.corners + t * edges).reshape(-1, 2)
    points = np.random.default_rng(0).uniform(0, 120, (60, 1, 2))
    expected = np.linalg.norm(points - outline, axis=-1).min(1)
    found = shape.distance(points[..., 0], points[..., 1])[:, 0]
    np.testing.assert_allclose(abs(found), expected, atol=0.1)
    np.testing.assert_array_equal(found < 0, inside(shape, points)[:, 0])


@pytest.mark.parametrize("seed", range(3))
def test_enough_of_each_shape_is_visible(seed: int, shapes: ModuleType) -> None:
    scene = shapes.random_scene(np.random.default_rng(seed), 131, 150)
    assert len(scene) >= 4
    top = np.full((131, 150), -1)
    for index, shape in enumerate(scene):
        top[inside(shape, pixels(131, 150))] = index
    for index, shape in enumerate(scene):
        assert (top == index).sum() >= 0.6 * shape.area


def test_classes_are_those_of_the_topmost_shapes(
    shapes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = [shape for kind in KINDS for shape in some(shapes, kind, count=2)]
    monkeypatch.setattr(shapes, "random_scene", lambda *_: scene)
    expected = np.zeros((120, 150), np.uint8)
    for shape in scene:
        expected[inside(shape, pixels(120, 150))] = shape.kind
    np.testing.assert_array_equal(shapes.draw(0, 120, 150)[1], expected)


def test_colours_do_not_tell_the_class(shapes: ModuleType) -> None:
    """Over many pictures, each class has the same colours."""
    means: dict[int, list[np.ndarray]] = {kind: [] for kind in range(5)}
    for seed in range(150):
        image, classes = shapes.draw((0, seed), 64, 64)
        for kind in np.unique(classes):
            means[int(kind)].append(image[classes == kind].mean(0) / 255)
    for found in means.values():
        assert len(found) > 40
        np.testing.assert_allclose(np.mean(found, 0), 0.5, atol=0.12)
        assert np.std(found, 0).min() > 0.1


def test_shapes_stand_out_from_the_ground(shapes: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ground = rng.uniform(0.1, 0.9, 3)
        assert np.linalg.norm(shapes.shape_colour(rng, ground) - ground) >= 0.4


def test_the_script_writes_the_committed_samples(
    shapes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "made" / "image.png", tmp_path / "classes.png", tmp_path / "few.png"]
    flags = zip(("--image", "--classes", "--few"), map(str, files), strict=True)
    arguments = ["shapes.py", *(text for flag in flags for text in flag)]
    monkeypatch.setattr("sys.argv", arguments)
    shapes.main()
    samples = (shapes.IMAGE, shapes.CLASS_IMAGE, shapes.FEW_IMAGE)
    for written, committed in zip(files, samples, strict=True):
        with Image.open(written) as found, Image.open(committed) as expected:
            assert found.mode == expected.mode
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    with Image.open(files[1]) as classes:
        assert np.asarray(classes).max() == 4
        assert classes.getpalette()[:3] == [0, 0, 0]
