"""The outputs of detectors, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet.detection import format_of, read_detections, require_converged

FOUR = {"num_dets": (2, 1), "det_boxes": (2, 5, 4), "det_scores": (2, 5), "det_classes": (2, 5)}


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        (FOUR, "efficientnms"),
        ({**FOUR, "det_masks": (2, 5, 28, 28)}, "efficientnms"),
        ({name: (-1, *shape[1:]) for name, shape in FOUR.items()}, "efficientnms"),
        ({**FOUR, "det_boxes": (2, 5, 5)}, None),
        ({**FOUR, "det_scores": (2, 4)}, None),
        ({**FOUR, "num_dets": (2,)}, None),
        ({name: shape for name, shape in FOUR.items() if name != "det_classes"}, None),
        ({"detections": (1, 7, 6)}, "rows6"),
        ({"detections": (1, 7, 85)}, None),
        ({"output0": (1, 7, 6)}, None),
        ({"boxes": (1, 9, 4), "scores": (1, 9, 3)}, "raw"),
        ({"boxes": (1, 9, 3, 4), "scores": (1, 9, 3)}, "raw"),
        ({"boxes": (1, 9, 2, 4), "scores": (1, 9, 3)}, None),
        ({"boxes": (1, 8, 4), "scores": (1, 9, 3)}, None),
        ({"scores": (1, 3)}, None),
        ({}, None),
    ],
)
def test_formats_are_known_by_names_and_shapes(shapes: Any, wanted: str | None) -> None:
    assert format_of(shapes) == wanted


def four(number: int, boxes: Any, scores: Any, classes: Any) -> dict[str, np.ndarray]:
    return {
        "num_dets": np.array([number], np.int32),
        "det_boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "det_scores": np.array(scores, np.float32),
        "det_classes": np.array(classes, np.int32),
    }


BOXES = [[0, 0, 1, 1], [2, 2, 5, 6], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_both_formats_say_the_same() -> None:
    outputs = four(3, BOXES, [0.9, np.nan, 0.5, 0], [4, 1, 0, 0])
    rows = np.column_stack([BOXES, [0.9, np.nan, 0.5, 0], [4, 1, 0, -1]]).astype(np.float32)
    for given in (outputs, {"detections": rows}, {**outputs, "det_masks": np.zeros((4, 28, 28))}):
        found = read_detections(given)
        assert found.boxes.tolist() == [BOXES[0], BOXES[2]]  # of no area, too
        assert found.scores.tolist() == [np.float32(0.9), 0.5]
        assert found.classes.tolist() == [4, 0]
        assert found.places.tolist() == [0, 2]


@pytest.mark.parametrize("places", [0, 4])
def test_no_detections(places: int) -> None:
    boxes, zeros = np.zeros((places, 4)), np.zeros(places)
    rows = np.column_stack([boxes, zeros, zeros - 1]).astype(np.float32)
    for given in (four(0, boxes, zeros, zeros), {"detections": rows}):
        found = read_detections(given)
        assert found.boxes.shape == (0, 4)
        assert len(found.scores) == len(found.classes) == 0


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (four(-1, BOXES, [0] * 4, [0] * 4), "has not converged(.|\n)*more rounds"),
        ({"detections": np.full((4, 6), np.nan, np.float32)}, "has not converged"),
        (four(5, BOXES, [0] * 4, [0] * 4), r"more detections than it has places(.|\n)*got: 5"),
        (four(1, [[0, 0, np.inf, 1]], [1], [0]), r"a box is not finite(.|\n)*inf"),
        (four(1, [[0, np.nan, 1, 1]], [1], [0]), "a box is not finite"),
        (four(1, [[0, 0, 1, 1]], [1], [-3]), r"has no class(.|\n)*got: -3"),
        ({"detections": np.float32([[0, 0, 1, 1, 0.5, 1.5]])}, r"has no class(.|\n)*got: 1.5"),
    ],
)
def test_what_is_no_detection(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(trtnet.ExecutionError, match=message):
        read_detections(outputs)


def test_a_box_that_is_not_finite_in_a_place_without_detection() -> None:
    found = read_detections(four(1, [[0, 0, 1, 1], [np.nan] * 4], [1, 0], [0, 0]))
    assert len(found.boxes) == 1


def test_other_outputs_are_refused() -> None:
    with pytest.raises(trtnet.ShapeError, match=r"no detections(.|\n)*num_dets(.|\n)*logits"):
        read_detections({"logits": np.zeros(10)})


def chain(output_format: str, rounds: int) -> trtnet.Plan:
    """Three boxes, each of which overlaps the next one: two rounds and one more to see it."""
    net = trtnet.Network(backend="torch")
    how = trtnet.detection.Suppression(0.3, 0.1, 3, form="unrolled", rounds=rounds)
    boxes, scores = net.input("boxes", (2, 6, 4)), net.input("scores", (2, 6, 1))
    found = trtnet.detection.detections(boxes, scores, how)
    for name, value in trtnet.detection.output_tensors(found, output_format).items():
        net.output(name, value)
    return trtnet.build(net)


def shifted() -> tuple[np.ndarray, np.ndarray]:
    """Of two images: boxes one beside the other, and a chain."""
    left = np.stack([np.arange(6) * 10, np.arange(6) * 4]).astype(np.float32)
    boxes = np.stack([left, left * 0, left + 10, left * 0 + 10], 2)
    return boxes.astype(np.float32), np.tile(np.linspace(0.9, 0.4, 6, dtype=np.float32), (2, 1))[
        ..., None
    ]


@pytest.mark.parametrize("output_format", ["efficientnms", "rows6"])
@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_a_session_raises_where_suppression_has_not_converged(
    output_format: str, arrays: str
) -> None:
    boxes, scores = shifted()
    if arrays == "torch":
        torch = pytest.importorskip("torch")
        boxes, scores = torch.tensor(boxes), torch.tensor(scores)
    with trtnet.Session(chain(output_format, 2), device="cpu") as session:
        with pytest.raises(trtnet.ExecutionError, match=r"1 of 2 images \(image 1\)"):
            session(boxes=boxes, scores=scores)
        with pytest.raises(trtnet.ExecutionError, match="converged"):
            list(session.map([{"boxes": boxes, "scores": scores}]))
    with trtnet.Session(chain(output_format, 8), device="cpu") as session:
        found = session(boxes=boxes, scores=scores)
    require_converged(found)
    second = {name: np.asarray(value[1]) for name, value in found.items()}
    assert read_detections(second).boxes[:, 0].tolist() == [0, 8, 16]
