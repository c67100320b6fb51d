"""Matched boxes against SciPy's assignment, overlaps against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from trtnet.detection.matching import Boxes, Match, boxes_in, match_of, overlaps_of, pairs_of


def clustered(rng: np.random.Generator, count: int, classes: int = 3) -> Boxes:
    """Boxes around few places, so that many overlap."""
    centers = rng.integers(1, 4, (count, 2)) * 20.0 + rng.normal(0, 2, (count, 2))
    sides = rng.uniform(8, 14, (count, 2))
    corners = np.concatenate([centers - sides, centers + sides], 1)
    return Boxes(corners, rng.uniform(0, 1, count), rng.integers(0, classes, count))


def test_overlaps_are_those_of_torchvision(rng: np.random.Generator) -> None:
    first, second = clustered(rng, 40).corners, clustered(rng, 30).corners
    wanted = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(overlaps_of(first, second), wanted, atol=1e-12)


def test_boxes_without_area_overlap_where_they_are_equal() -> None:
    line = np.array([[0.0, 5, 0, 9]])
    assert overlaps_of(line, line + 0.001) == 1
    assert overlaps_of(line, np.array([[0.0, 5, 0, 10]])) == 0
    assert overlaps_of(line, np.array([[0.0, 0, 10, 10]])) == 0


@pytest.mark.parametrize("least", [0.3, 0.5, 0.9])
def test_as_many_pairs_as_there_can_be(least: float, rng: np.random.Generator) -> None:
    for _ in range(60):
        first, second = clustered(rng, rng.integers(0, 25)), clustered(rng, rng.integers(0, 25))
        pairs = pairs_of(first, second, least)
        overlap = box_iou(torch.from_numpy(first.corners), torch.from_numpy(second.corners)).numpy()
        fits = (overlap >= least) & (first.classes[:, None] == second.classes)
        rows, columns = linear_sum_assignment(fits, maximize=True)
        assert len(pairs) == fits[rows, columns].sum()
        assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
        assert all(fits[pair] for pair in pairs)


def test_many_equal_boxes() -> None:
    same = Boxes(np.tile([0.0, 0, 9, 9], (1500, 1)), np.ones(1500), np.ones(1500, int))
    assert match_of([same], [same]).matched == 1500


def test_moved_exchanged_and_missing_boxes(rng: np.random.Generator) -> None:
    corners = np.arange(10)[:, None] * 100.0 + [0, 0, 50, 50]
    theirs = Boxes(corners, np.linspace(0.9, 0.5, 10), np.arange(10))
    order = rng.permutation(10)
    moved = Boxes(corners[order] + [0, 0, 1, 0], theirs.scores[order] - 0.02, order)
    assert match_of([moved], [theirs]) == Match(10, 10, 10, 50 / 51, pytest.approx(0.02))
    nine = Boxes(*(part[:9] for part in moved))
    assert match_of([nine], [theirs]).share == 0.9
    assert match_of([theirs], [nine]).share == 0.9  # one too many is as bad as one missing
    other = moved._replace(classes=moved.classes + 1)
    assert match_of([other], [theirs]) == Match(10, 10, 0, None, None)
    none = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert match_of([none], [none]).share == 1
    assert match_of([none], [theirs]).share == 0


def test_boxes_of_both_formats(rng: np.random.Generator) -> None:
    corners = rng.uniform(0, 50, (2, 3, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 3)).astype(np.float32)
    classes = np.array([[4, 0, 0], [1, 2, 3]], np.int32)
    counts = np.array([[2], [3]], np.int32)
    four = {"num_dets": counts, "det_boxes": corners, "det_scores": scores, "det_classes": classes}
    numbers = np.where(np.arange(3) < counts, classes, -1)[..., None]
    rows = {"detections": np.concatenate([corners, scores[..., None], numbers], 2)}
    for outputs in (four, rows):
        for image, found in enumerate(boxes_in(outputs)):
            n = counts[image, 0]
            np.testing.assert_array_equal(found.corners, corners[image, :n])
            np.testing.assert_array_equal(found.scores, scores[image, :n])
            np.testing.assert_array_equal(found.classes, classes[image, :n])


def test_an_image_that_has_not_converged_has_no_boxes() -> None:
    four = {"num_dets": np.array([[-1]]), "det_boxes": np.ones((1, 3, 4)),
            "det_scores": np.ones((1, 3)), "det_classes": np.ones((1, 3), int)}  # fmt: skip
    assert len(boxes_in(four)[0].scores) == 0
    assert len(boxes_in({"detections": np.full((1, 3, 6), np.nan)})[0].scores) == 0
