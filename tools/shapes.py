"""Draws pictures of circles, rectangles, triangles and stars, with the class of every pixel.

    python tools/shapes.py      # writes the sample pictures, and the classes of one

Shapes of random size, angle and place lie on a textured, noisy ground and partly over each other.
Colours and textures are random for ground and shapes alike, so that only its form tells what a
shape is. Everything follows from a seed.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from trtnet.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "docs" / "images" / "shapes.png"
CLASS_IMAGE = ROOT / "tests" / "data" / "segmentation" / "shapes_classes.png"
SAMPLE_SEED = (2, 0)
SAMPLE_SIZE = (301, 403)  # height, width
FEW_IMAGE = IMAGE.with_name("shapes_few.png")
FEW_SEED = (3, 52)  # of 700, one of those in which the shipped detector finds every shape exactly
FEW_SIZE = (120, 160)

CLASSES = ("background", "circle", "rectangle", "triangle", "star")
CIRCLE, RECTANGLE, TRIANGLE, STAR = range(1, len(CLASSES))
RADII = (12.0, 32.0)  # pixels, of the circle around a shape
PIXELS_PER_SHAPE = 1500  # of the image, for each attempt to place one
VISIBLE = 0.6  # share of a shape that others and the image's edge leave, at least
COLOURS = (0.1, 0.9)  # of each channel; black is 0, white 1
COLOUR_DISTANCE = 0.4  # of a shape from the ground, at least
CONTRASTS = (0.0, 0.15)  # of a texture
PERIODS = (4.0, 64.0)  # pixels, of its waves
NOISES = (0.01, 0.06)  # standard deviation


@dataclass(frozen=True)
class Shape:
    """A circle of `radius` around (x, y), or the polygon of `corners` (K, 2) inside that circle.

    Positions are in pixels; whole numbers are the centres of pixels.
    """

    kind: int
    x: float
    y: float
    radius: float
    corners: np.ndarray | None = None

    @property
    def area(self) -> float:
        """The area in pixels."""
        if self.corners is None:
            return np.pi * self.radius**2
        (x, y), (next_x, next_y) = self.corners.T, np.roll(self.corners, -1, 0).T
        return abs(float((x * next_y - next_x * y).sum())) / 2

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far the points (x, y), each (H, W), are from the outline; negative inside."""
        if self.corners is None:
            return np.hypot(x - self.x, y - self.y) - self.radius
        start = self.corners[..., None, None]
        edge = np.roll(start, -1, 0) - start
        (px, py), (ex, ey) = (x - start[:, 0], y - start[:, 1]), (edge[:, 0], edge[:, 1])
        along = ((px * ex + py * ey) / (ex**2 + ey**2)).clip(0, 1)
        nearest = np.sqrt(((px - along * ex) ** 2 + (py - along * ey) ** 2).min(0))
        # From inside, a ray to the right crosses the outline an odd number of times.
        crossed = ((py < 0) != (py < ey)) & ((px * ey < py * ex) == (ey > 0))
        signed: np.ndarray = np.where(np.logical_xor.reduce(crossed), -nearest, nearest)
        return signed


def log_uniform(
    rng: np.random.Generator, limits: tuple[float, float], size: tuple[int, ...] = ()
) -> np.ndarray:
    """Numbers between `limits` whose logarithms are evenly spread."""
    low, high = map(math.log, limits)
    return np.exp(rng.uniform(low, high, size))


def random_shape(rng: np.random.Generator, height: int, width: int) -> Shape:
    """A shape whose centre is in an image of that size."""
    kind = int(rng.integers(1, len(CLASSES)))
    radius = float(log_uniform(rng, RADII))
    x, y = (float(rng.uniform(0, size - 1)) for size in (width, height))
    if kind == CIRCLE:
        return Shape(kind, x, y, radius)
    radii = np.array([radius])
    if kind == RECTANGLE:
        half = rng.uniform(np.pi / 8, np.pi / 4)
        angles = np.array([half, np.pi - half, np.pi + half, -half])
    elif kind == TRIANGLE:
        angles = 2 * np.pi / 3 * np.arange(3) + rng.uniform(-0.4, 0.4, 3)
    else:
        angles = np.pi / 5 * np.arange(10)
        radii = radius * np.tile([1.0, rng.uniform(0.38, 0.5)], 5)
    angles = angles + rng.uniform(0, 2 * np.pi)
    corners = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1) + (x, y)
    return Shape(kind, x, y, radius, corners)


def coverage(shape: Shape, height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of an image that holds `shape`, and the share of each pixel there that it covers.

    Above one half, the centre of the pixel is inside.
    """
    top, left = (max(int(at - shape.radius), 0) for at in (shape.y, shape.x))
    bottom, right = (
        min(int(at + shape.radius) + 2, size) for at, size in ((shape.y, height), (shape.x, width))
    )
    y, x = np.mgrid[top:bottom, left:right]
    return np.s_[top:bottom, left:right], np.clip(0.5 - shape.distance(x, y), 0, 1)


def random_scene(rng: np.random.Generator, height: int, width: int) -> list[Shape]:
    """Shapes from the lowest to the topmost, with enough of each to be seen."""
    shapes: list[Shape] = []
    needed, visible = np.zeros(0), np.zeros(0)  # pixels of each shape
    topmost = np.full((height, width), -1)
    for _ in range(height * width // PIXELS_PER_SHAPE):
        shape = random_shape(rng, height, width)
        window, covered = coverage(shape, height, width)
        inside = covered > 0.5
        below = topmost[window][inside]
        now_needed = np.append(needed, VISIBLE * shape.area)
        hidden = np.bincount(below[below >= 0], minlength=len(shapes))
        now_visible = np.append(visible - hidden, inside.sum())
        if (now_visible >= now_needed).all():
            topmost[window][inside] = len(shapes)
            shapes.append(shape)
            needed, visible = now_needed, now_visible
    return shapes


def texture(rng: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """Waves around `colour`, (height, width, 3): a single one makes stripes, several clouds."""
    count = int(rng.integers(1, 7))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, count, 1, 1))
    frequency = 2 * np.pi / log_uniform(rng, PERIODS, (count, 1, 1))
    y, x = np.ogrid[:height, :width]
    waves = np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    tint = rng.uniform(-1, 1, 3) * rng.uniform(*CONTRASTS)
    textured: np.ndarray = colour + waves.sum(0)[..., None] / np.sqrt(count) * tint
    return textured


def shape_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A colour that is not the ground's."""
    while True:
        colour = rng.uniform(*COLOURS, 3)
        if np.linalg.norm(colour - ground) >= COLOUR_DISTANCE:
            return colour


def draw_shapes(
    seed: int | Sequence[int], height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture of a random scene, its K shapes, and which of them every pixel belongs to.

    Returns:
        RGB (height, width, 3) uint8; the classes (K,) uint8; (height, width) int64, the topmost
        shape at the centre of each pixel, -1 where there is ground.
    """
    rng = np.random.default_rng(seed)
    ground = rng.uniform(*COLOURS, 3)
    image = texture(rng, ground, height, width)
    topmost = np.full((height, width), -1)
    scene = random_scene(rng, height, width)
    for number, shape in enumerate(scene):
        window, covered = coverage(shape, height, width)
        surface = texture(rng, shape_colour(rng, ground), *covered.shape)
        image[window] += covered[..., None] * (surface - image[window])
        topmost[window][covered > 0.5] = number
    image += rng.normal(0, rng.uniform(*NOISES), image.shape)
    kinds = np.array([shape.kind for shape in scene], np.uint8)
    return (255 * image.clip(0, 1)).round().astype(np.uint8), kinds, topmost


def draw(seed: int | Sequence[int], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a random scene: RGB (height, width, 3) and classes (height, width), uint8."""
    image, kinds, topmost = draw_shapes(seed, height, width)
    return image, np.append(kinds, np.uint8(0))[topmost]


def write_png(path: Path, image: Image.Image) -> None:
    """Writes `image` as an optimized PNG; creates its folder."""
    encoded = io.BytesIO()
    image.save(encoded, "png", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(encoded.getvalue())


def class_image(classes: np.ndarray) -> Image.Image:
    """A palette image whose pixel values are the classes."""
    image = Image.fromarray(classes, "P")
    image.putpalette([0, 0, 0, 230, 75, 60, 50, 120, 220, 60, 180, 75, 250, 200, 40])
    return image


def main() -> None:
    """Writes the images that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--classes", type=Path, default=CLASS_IMAGE)
    parser.add_argument("--few", type=Path, default=FEW_IMAGE)
    args = parser.parse_args()
    image, classes = draw(SAMPLE_SEED, *SAMPLE_SIZE)
    write_png(args.image, Image.fromarray(image))
    write_png(args.classes, class_image(classes))
    write_png(args.few, Image.fromarray(draw(FEW_SEED, *FEW_SIZE)[0]))


if __name__ == "__main__":
    main()
