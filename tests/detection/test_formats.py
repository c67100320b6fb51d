"""Output formats, against rows that NumPy makes from the four tensors."""

from __future__ import annotations

import numpy as np
import pytest
from nms_oracle import KINDS

import trtnet
from trtnet import detection, reference
from trtnet.detection import Suppression, checked_output_format, output_tensors
from trtnet.errors import UsageError


def ran(output_format: str, boxes, scores, how: Suppression) -> dict[str, np.ndarray]:
    net = trtnet.Network("rtx")
    found = detection.detections(
        net.input("boxes", boxes.shape), net.input("scores", scores.shape), how
    )
    for name, value in output_tensors(found, output_format).items():
        net.output(name, value)
    outputs = reference.run(net, {"boxes": boxes, "scores": scores})
    return {name: np.asarray(value) for name, value in outputs.items()}


@pytest.mark.parametrize("rounds", [100, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_hold_what_the_four_tensors_hold(kind: str, rounds: int) -> None:
    rng = np.random.default_rng(7)
    boxes, scores = (
        np.stack(part) for part in zip(*(KINDS[kind](rng, 40, 3) for _ in range(2)), strict=True)
    )
    how = Suppression(candidates=60, max_detections=12, form="unrolled", rounds=rounds)
    four, rows = ran("efficientnms", boxes, scores, how), ran("rows6", boxes, scores, how)
    assert list(four) == ["num_dets", "det_boxes", "det_scores", "det_classes"]
    assert list(rows) == ["detections"]
    wanted = np.zeros((2, 12, 6), np.float32)
    wanted[..., 5] = -1
    for image, number in enumerate(four["num_dets"][:, 0]):
        if number < 0:
            wanted[image] = np.nan
        for place in range(number):
            label, score = four["det_classes"][image, place], four["det_scores"][image, place]
            wanted[image, place] = [*four["det_boxes"][image, place], score, label]
    assert rows["detections"].dtype == np.float32
    assert np.array_equal(rows["detections"], wanted, equal_nan=True)


def test_formats_have_names() -> None:
    assert checked_output_format("raw") == "raw"
    with pytest.raises(UsageError, match="no such output format") as caught:
        checked_output_format("row6")
    assert "rows6" in str(caught.value)
    net = trtnet.Network("rtx")
    found = detection.detections(net.input("b", (1, 4, 4)), net.input("s", (1, 4, 2)))
    with pytest.raises(UsageError, match="expected: efficientnms or rows6"):
        output_tensors(found, "raw")
