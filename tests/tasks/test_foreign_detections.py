"""Engines that others have made: outputs that are impossible are errors, not results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet.tasks import Detection, Failure

FOUR = {
    "num_dets": np.int32([1]), "det_boxes": np.float32([[0, 0, 30, 30]] * 3),
    "det_scores": np.float32([0.9] * 3), "det_classes": np.int32([1] * 3),
}  # fmt: skip
INF, NAN = float("inf"), float("nan")


def engine(outputs: Mapping[str, Any]) -> trtnet.Plan:
    """It gives `outputs`, whatever it sees."""
    net = trtnet.Network(backend="torch")
    zero = (net.input("input", (1, 3, 64, 64)) * 0.0).sum()
    for name, value in outputs.items():
        constant = net.constant(np.asarray(value)[None])
        net.output(name, constant + (zero if constant.dtype == trtnet.float32 else zero.int()))
    return trtnet.build(net, sidecar={"preprocessing": {"letterbox_size": 64}})


def result(outputs: Mapping[str, Any]) -> Detection | Failure:
    with trtnet.Detector(engine(outputs), device="cpu") as detect:
        (found,) = detect.stream([np.zeros((64, 64, 3), np.uint8)])
    return found


def row(score: float = 0.5, label: float = 1.0) -> dict[str, np.ndarray]:
    return {"detections": np.float32([[0, 0, 9, 9, score, label]])}


def masks(value: float) -> dict[str, np.ndarray]:
    return {**FOUR, "det_masks": np.full((3, 28, 28), value, np.float32)}


def keypoints(value: float) -> dict[str, np.ndarray]:
    return {**FOUR, "det_keypoints": np.full((3, 5, 56, 56), value, np.float32)}


def prototypes(value: float, name: str) -> dict[str, np.ndarray]:
    """Masks of prototypes, of which the output `name` has this value."""
    shapes = {"det_coefficients": (3, 8), "prototypes": (8, 16, 16)}
    return {**FOUR, **{each: np.full(shape, value if each == name else 1, np.float32)
                       for each, shape in shapes.items()}}  # fmt: skip


def points(value: float) -> dict[str, np.ndarray]:
    return {**FOUR, "det_points": np.full((3, 5, 3), value, np.float32)}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (row(score=INF), r"a score is outside of 0..1(.|\n)*inf in place 0"),
        (row(score=-INF), "a score is outside of 0..1"),
        (row(score=-2.5), r"a score is outside of 0..1(.|\n)*-2.5 in place 0(.|\n)*sigmoid"),
        (row(score=7), "a score is outside of 0..1"),
        (row(label=INF), "a detection has no class"),
        (row(label=1e20), "a detection has no class"),
        (row(label=2.0**24), "a detection has no class"),
        ({**FOUR, "det_classes": np.int32([2**31 - 1] * 3)}, "a detection has no class"),
        ({**FOUR, "num_dets": np.float32([1.5])}, r"num_dets(.|\n)*0..3(.|\n)*1.5"),
        ({**FOUR, "num_dets": np.float32([NAN])}, r"num_dets(.|\n)*0..3(.|\n)*nan"),
        (masks(NAN), "det_masks: values are not finite"),
        (masks(INF), "det_masks: values are not finite"),
        (keypoints(NAN), "det_keypoints: values are not finite"),
        (keypoints(-INF), "det_keypoints: values are not finite"),
        (points(NAN), "det_points: values are not finite"),
        (prototypes(NAN, "det_coefficients"), "det_coefficients: values are not finite"),
        (prototypes(INF, "prototypes"), "prototypes: values are not finite"),
    ],
)
def test_an_image_fails(outputs: Mapping[str, Any], message: str) -> None:
    found = result(outputs)
    assert isinstance(found, Failure)
    assert isinstance(found.error, trtnet.ExecutionError)
    assert re.search(message, str(found))


def test_what_is_not_a_detection_may_be_anything() -> None:
    """Places after ``num_dets``, and classes of scores that are NaN."""
    values = np.full((3, 28, 28), NAN, np.float32)
    values[0] = 0.7
    found = result({**FOUR, "det_masks": values, "det_scores": np.float32([0.9, INF, 7])})
    assert isinstance(found, Detection)
    assert found.mask(0).sum() >= 30 * 30
    assert isinstance(result(row(score=NAN)), Detection)


@pytest.mark.parametrize(
    "further",
    [
        {"det_masks": (2, 28, 28)},
        {"det_masks": (3, 28, 14)},
        {"det_masks": (3, 28)},
        {"det_masks": (3, 1, 28, 28)},
        {"det_keypoints": (2, 5, 56, 56)},
        {"det_keypoints": (3, 5, 56)},
        {"det_keypoints": (3, 5, 56, 55)},
        {"det_points": (2, 5, 3)},
        {"det_points": (3, 5, 2)},
        {"det_points": (3, 15)},
        {"det_coefficients": (2, 8), "prototypes": (8, 16, 16)},
        {"det_coefficients": (3, 8, 1), "prototypes": (8, 16, 16)},
    ],
)
def test_further_outputs_that_do_not_fit_are_refused(further: dict[str, tuple[int, ...]]) -> None:
    outputs = {name: np.zeros(shape, np.float32) for name, shape in further.items()}
    name = next(iter(further))
    wanted = r"\(B, 3, ((N, )?M, M|N, 3|P)\)"
    with pytest.raises(trtnet.ShapeError, match=rf"{name}(.|\n)*expected: {wanted}"):
        result({**FOUR, **outputs})


@pytest.mark.parametrize(
    "further",
    [
        {"det_coefficients": (3, 8)},
        {"prototypes": (8, 16, 16)},
        {"det_coefficients": (3, 8), "prototypes": (9, 16, 16)},
        {"det_coefficients": (3, 8), "prototypes": (8, 256)},
    ],
)
def test_prototypes_that_do_not_fit_are_refused(further: dict[str, tuple[int, ...]]) -> None:
    outputs = {name: np.zeros(shape, np.float32) for name, shape in further.items()}
    with pytest.raises(
        trtnet.ShapeError, match=r"prototypes of masks do not fit(.|\n)*\(B, K, P\)"
    ):
        result({**FOUR, **outputs})


def test_colours_of_any_class() -> None:
    """A picture does not need a table as long as the number of the class."""
    found = result(row(label=2.0**24 - 1))
    assert isinstance(found, Detection)
    assert found.picture().size == (64, 64)


@pytest.mark.parametrize("outputs", [FOUR, row()])
def test_a_detector_is_no_classifier(outputs: Mapping[str, Any]) -> None:
    """Though one of its outputs, the scores, has the shape (B, K)."""
    with pytest.raises(trtnet.UsageError, match=r"gives no scores of classes(.|\n)*detect"):
        trtnet.Classifier(engine(outputs), device="cpu")
