"""Pictures of shapes (``tools/shapes.py``) with their boxes, for detectors, and COCO's measure.

A box is that of the visible part of a shape: of the pixels whose centre is inside the shape and
inside no shape above it. Its corners are the outer edges of these pixels, so whole numbers; the
picture's own corners are (0, 0) and (width, height). Shapes are numbered as in :data:`CLASSES`.

    python tools/detector_data.py FOLDER [--pictures 32]

writes held-out pictures and their boxes, which ``trtnet search`` and ``trtnet sensitivity`` read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapes
from PIL import Image

from trtnet.files import atomic_write
from trtnet.quantization.box_labels import ANNOTATIONS

CLASSES = shapes.CLASSES[1:]
TRAINING, HELD_OUT = 3, 4  # first part of a picture's seed
HELD_OUT_SIZES = ((301, 403), (416, 416), (400, 320), (288, 400))  # height, width
HELD_OUT_COUNT = 200
EDGES = (128, 160)  # of training pictures, smallest and largest
MOST_SHAPES = 24  # of a training picture
PADDING = 114  # grey around pictures, as YOLOX has it


class Labelled(NamedTuple):
    """A picture and its boxes.

    Attributes:
        image: RGB (H, W, 3) uint8.
        boxes: (K, 4) float32, x1, y1, x2, y2 in pixels.
        classes: (K,) int64, 0-based.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


def labelled(seed: int | Sequence[int], height: int, width: int) -> Labelled:
    """The picture that ``shapes.draw`` makes of the seed, with the boxes of its shapes."""
    image, kinds, topmost = shapes.draw_shapes(seed, height, width)
    boxes = np.zeros((len(kinds), 4), np.float32)
    for number in range(len(kinds)):
        y, x = np.nonzero(topmost == number)
        boxes[number] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return Labelled(image, boxes, kinds.astype(np.int64) - 1)


def held_out(count: int = HELD_OUT_COUNT) -> Iterable[Labelled]:
    """The first `count` pictures that take no part in training, always the same."""
    for index in range(count):
        yield labelled((HELD_OUT, index), *HELD_OUT_SIZES[index % len(HELD_OUT_SIZES)])


def training_picture(index: int) -> Labelled:
    """A picture whose edges have any length between the two of :data:`EDGES`."""
    seed = (TRAINING, index)
    height, width = np.random.default_rng(seed).integers(EDGES[0], EDGES[1] + 1, 2)
    return labelled(seed, int(height), int(width))


class Pictures(NamedTuple):
    """N training pictures, each at the top left of a square of :data:`PADDING`.

    Attributes:
        images: RGB (N, S, S, 3) uint8.
        sizes: (N, 2) int64, height and width of each picture.
        boxes: (N, MOST_SHAPES, 4) float32, zeros after the last.
        classes: (N, MOST_SHAPES) int64, -1 after the last.
    """

    images: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


def training_pictures(first: int, count: int) -> Pictures:
    """`count` training pictures from number `first` on."""
    edge = EDGES[1]
    images = np.full((count, edge, edge, 3), PADDING, np.uint8)
    sizes = np.zeros((count, 2), np.int64)
    boxes = np.zeros((count, MOST_SHAPES, 4), np.float32)
    classes = np.full((count, MOST_SHAPES), -1, np.int64)
    for at in range(count):
        picture = training_picture(first + at)
        sizes[at] = height, width = picture.image.shape[:2]
        images[at, :height, :width] = picture.image
        found = len(picture.classes)
        boxes[at, :found], classes[at, :found] = picture.boxes, picture.classes
    return Pictures(images, sizes, boxes, classes)


def cached_pictures(folder: Path, count: int, workers: int = 1, share: int = 250) -> Pictures:
    """The first `count` training pictures, drawn where `folder` does not have them yet.

    They lie in files of `share` pictures each, so that drawing which was ended goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    firsts = range(0, count, share)
    with ProcessPoolExecutor(workers) as pool:
        files = list(pool.map(_cached, [folder] * len(firsts), firsts, [share] * len(firsts)))
    parts = []
    for file in files:
        with np.load(file) as arrays:
            parts.append(Pictures(*(arrays[name] for name in Pictures._fields)))
    return Pictures(*(np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True)))


def _cached(folder: Path, first: int, share: int) -> Path:
    path = folder / f"{first:06}_{share}.npz"
    if not path.exists():
        with atomic_write(path) as file:
            np.savez(file, **training_pictures(first, share)._asdict())
    return path


def coco_map(truth: Sequence[Labelled], found: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The twelve figures of COCO's measure, by pycocotools; the first is mAP@0.5:0.95.

    Args:
        truth: the pictures.
        found: boxes (K, 4), scores (K,) and classes (K,) of each picture, in its own pixels.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (picture, one) in enumerate(zip(truth, found, strict=True), 1):
        height, width = picture.image.shape[:2]
        images.append({"id": number, "height": height, "width": width})
        for box, kind in zip(_from_corners(picture.boxes), picture.classes, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": number, "iscrowd": 0,
                                "category_id": int(kind), "bbox": box,
                                "area": box[2] * box[3]})  # fmt: skip
        for box, score, kind in zip(_from_corners(one[0]), one[1], one[2], strict=True):
            results.append({"image_id": number, "category_id": int(kind), "bbox": box,
                            "score": float(score)})  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    if not results:
        return np.zeros(12)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
        coco.createIndex()
        measure = COCOeval(coco, coco.loadRes(results), "bbox")
        measure.evaluate()
        measure.accumulate()
        measure.summarize()
    return np.asarray(measure.stats)


def _from_corners(boxes: np.ndarray) -> list[list[float]]:
    """x, y, width and height of boxes (K, 4)."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides: list[list[float]] = np.concatenate(
        [corners[:, :2], corners[:, 2:] - corners[:, :2]], 1
    ).tolist()
    return sides


def write(folder: Path, pictures: Iterable[Labelled]) -> None:
    """Writes `pictures` as PNG files, and their boxes in COCO's format."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures):
        name, (height, width) = f"{number:04}.png", picture.image.shape[:2]
        Image.fromarray(picture.image).save(folder / name)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += [
            {"id": len(annotations) + index, "image_id": number, "category_id": int(kind),
             "bbox": box, "iscrowd": 0}
            for index, (box, kind) in enumerate(
                zip(_from_corners(picture.boxes), picture.classes, strict=True))
        ]  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with atomic_write(folder / ANNOTATIONS) as file:
        file.write(json.dumps(content).encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=32, metavar="N")
    given = parser.parse_args()
    write(given.folder, held_out(given.pictures))
