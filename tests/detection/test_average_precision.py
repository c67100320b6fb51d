"""Average precision against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trtnet.detection.average_precision import Truth, average_precision
from trtnet.detection.matching import Boxes


def oracle(found: list[Boxes], truth: list[Truth]) -> float:
    """The mAP of COCOeval; -1 where it has none."""
    classes = sorted({int(c) for part in (*found, *truth) for c in part.classes})
    annotations, results = [], []
    for image, part in enumerate(truth):
        for corners, label, crowd in zip(*part, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": image,
                                "bbox": xywh(corners),
                                "area": float(np.prod(corners[2:] - corners[:2])),
                                "category_id": int(label), "iscrowd": int(crowd)})  # fmt: skip
    for image, part in enumerate(found):
        for corners, score, label in zip(*part, strict=True):
            results.append({"image_id": image, "bbox": xywh(corners), "score": float(score),
                            "category_id": int(label)})  # fmt: skip
    coco = COCO()
    coco.dataset = {"images": [{"id": i} for i in range(len(truth))], "annotations": annotations,
                    "categories": [{"id": c} for c in classes]}  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        made = COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")
        if not results:
            made.params.imgIds = list(range(len(truth)))
            made.params.catIds = classes
        made.evaluate()
        made.accumulate()
        made.summarize()
    return float(made.stats[0])


def xywh(corners: np.ndarray) -> list[float]:
    return [*map(float, corners[:2]), *map(float, corners[2:] - corners[:2])]


def pictures(
    rng: np.random.Generator, count: int, classes: int, crowds: float = 0.1, digits: int = 2
) -> tuple[list[Boxes], list[Truth]]:
    """Objects, and boxes near them or elsewhere, with scores of few digits: some are equal."""
    found, truth = [], []
    for _ in range(count):
        objects = rng.integers(0, 9)
        corner = rng.uniform(0, 200, (objects, 2))
        corners = np.concatenate([corner, corner + rng.uniform(10, 80, (objects, 2))], 1)
        labels = rng.integers(0, classes, objects)
        truth.append(Truth(corners, labels, rng.uniform(size=objects) < crowds))
        at = rng.integers(0, max(objects, 1), rng.integers(0, 30) if objects else 0)
        moved = corners[at] + rng.normal(0, 4, (len(at), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        exact = rng.uniform(size=len(at)) < 0.2
        moved[exact] = corners[at][exact]
        other = rng.uniform(size=len(at)) < 0.2
        names = np.where(other, rng.integers(0, classes, len(at)), labels[at])
        scores = np.round(rng.uniform(0, 1, len(at)), digits)
        found.append(Boxes(moved, scores, names))
    return found, truth


@pytest.mark.parametrize("seed", range(20))
def test_it_is_that_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = pictures(rng, 12, classes=1 + seed % 5, crowds=0.3 * (seed % 2))
    assert average_precision(found, truth) == pytest.approx(oracle(found, truth), abs=1e-9)


def test_more_boxes_than_count(rng: np.random.Generator) -> None:
    (few,), (truth,) = pictures(rng, 1, 1, 0.0)
    while not len(truth.classes):
        (few,), (truth,) = pictures(rng, 1, 1, 0.0)
    repeated = np.tile(truth.corners, (60, 1)) + rng.normal(0, 3, (60 * len(truth.corners), 4))
    many = Boxes(repeated, rng.uniform(size=len(repeated)), np.zeros(len(repeated), np.int64))
    assert average_precision([many], [truth]) == pytest.approx(oracle([many], [truth]), abs=1e-9)
    assert len(few) == 3


def test_perfect_none_and_nothing_to_find(rng: np.random.Generator) -> None:
    _, truth = pictures(rng, 6, 3, crowds=0.0)
    perfect = [Boxes(t.corners, np.ones(len(t.classes)), t.classes) for t in truth]
    none = [Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)) for _ in truth]
    assert average_precision(perfect, truth) == pytest.approx(1)
    assert average_precision(none, truth) == 0
    crowds = [t._replace(crowd=np.ones(len(t.classes), bool)) for t in truth]
    assert average_precision(perfect, crowds) is None
    assert oracle(perfect, crowds) == -1
    assert average_precision([], []) is None
