"""The choice without suppression, against ``torch.topk``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trtnet
from trtnet.detection import best_detections
from trtnet.errors import ShapeError, UsageError


def tensors(batch=2, count=40, classes=5):
    rng = np.random.default_rng(0)
    scores = rng.permutation(batch * count * classes).reshape(batch, count, classes)
    boxes = rng.uniform(0, 100, (batch, count, 4))
    return boxes.astype(np.float32), (scores / scores.size).astype(np.float32)


def oracle(boxes, scores, count, threshold):
    best, order = scores.flatten(1).topk(count)
    good = best > threshold
    label, box = order % scores.shape[2], order // scores.shape[2]
    corners = boxes.gather(1, box[..., None].expand(-1, -1, 4))
    return (
        good.sum(1, keepdim=True).int(),
        torch.where(good[..., None], corners, 0),
        torch.where(good, best, 0),
        torch.where(good, label, 0).int(),
        torch.where(good, box, 0).int(),
    )


@pytest.mark.parametrize(("count", "threshold"), [(7, 0.0), (60, 0.8001), (200, 0.5)])
def test_the_best_are_those_of_pytorch(count, threshold, check):
    check(
        lambda boxes, scores: list(best_detections(boxes, scores, count, threshold)),
        lambda boxes, scores: oracle(boxes, scores, count, threshold),
        *tensors(),
        dynamic=[("B", 40, 4), ("B", 40, 5)],
    )


def test_a_score_that_is_nan_is_no_detection():
    boxes, scores = tensors(1)
    scores[0, :3] = np.nan
    network = trtnet.Network("rtx")
    found = best_detections(
        *(network.input(name, x.shape) for name, x in zip("bs", (boxes, scores), strict=True)), 30
    )
    for name, tensor in found._asdict().items():
        network.output(name, tensor)
    got = trtnet.reference.run(network.definition, {"b": boxes, "s": scores})
    assert got["num_dets"] == 30 - 15  # the NaN of 3 boxes come first, and are none
    assert np.isfinite(got["det_scores"]).all()
    assert (got["det_scores"] > 0).sum() == 15


def test_what_does_not_fit_is_refused():
    network = trtnet.Network("rtx")
    boxes, scores = network.input("b", (1, 5, 4)), network.input("s", (1, 5, 2))
    with pytest.raises(ShapeError, match="at least 11"):
        best_detections(boxes, scores, 11)
    with pytest.raises(ShapeError, match="do not fit together"):
        best_detections(boxes[:, :4], scores, 3)
    with pytest.raises(UsageError, match=r"1\.\.3840"):
        best_detections(boxes, scores, 4000)
    with pytest.raises(UsageError, match="score_threshold"):
        best_detections(boxes, scores, 3, 1.5)
