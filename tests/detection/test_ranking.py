"""The choice without suppression, against a plain program and ``torch.topk``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trtnet
from trtnet import reference
from trtnet.detection import best_detections
from trtnet.errors import ShapeError, UsageError


def network(shape, count, threshold=0.0, precision="fp32"):
    """A network of N boxes and C classes, (B, N, C)."""
    net = trtnet.Network("rtx", precision=precision)
    boxes, scores = net.input("boxes", (*shape[:2], 4)), net.input("scores", shape)
    for name, value in best_detections(boxes, scores, count, threshold)._asdict().items():
        net.output(name, value)
    return net


def tensors():
    """All scores differ."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 100, (2, 60, 4)).astype(np.float32)
    return boxes, rng.permutation(360).reshape(2, 60, 3).astype(np.float32) / 360


def wanted(scores, count, threshold):
    """Pairs of a class and a box."""
    good = [pair for pair in np.ndindex(scores.shape) if scores[pair] > threshold]
    return [(c, n) for n, c in sorted(good, key=lambda pair: -scores[pair])[:count]]


def assert_best(net, boxes, scores, count, threshold=0.0):
    ran = reference.run(net, {"boxes": boxes, "scores": scores})
    found = {name: np.asarray(value) for name, value in ran.items()}
    assert found["det_boxes"].shape == (len(boxes), count, 4)
    for image, pairs in enumerate(wanted(each, count, threshold) for each in scores):
        number = found["num_dets"][image, 0]
        assert number == len(pairs)
        labels, indices = (found[f"det_{name}"][image] for name in ("classes", "indices"))
        assert list(zip(labels[:number], indices[:number], strict=True)) == pairs
        corners = np.reshape([boxes[image, n] for _, n in pairs], (-1, 4))
        np.testing.assert_array_equal(found["det_boxes"][image, :number], corners)
        np.testing.assert_array_equal(found["det_scores"][image, :number],
                                      [scores[image, n, c] for c, n in pairs])  # fmt: skip
        for name in ("det_boxes", "det_scores", "det_classes", "det_indices"):
            assert not found[name][image, number:].any(), name
    return [wanted(each, count, threshold) for each in scores]


@pytest.mark.parametrize(("count", "threshold"), [(25, 0.0), (40, 0.25), (60, 0.5), (250, 0.25)])
@pytest.mark.parametrize("shape", [(2, 60, 3), ("B", "N", 3)], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_best_pairs(count, threshold, shape, precision):
    """180 pairs of an image, of which no 250 can be there; a box has several classes."""
    chosen = assert_best(network(shape, count, threshold, precision), *tensors(), count, threshold)
    assert any(len({n for _, n in pairs}) < len(pairs) for pairs in chosen)


@pytest.mark.parametrize("count", [30, 100])
def test_a_score_that_is_nan_is_no_detection(count):
    boxes, scores = tensors()
    scores[0, :30, 1] = np.nan
    scores[1] = np.nan
    assert_best(network((2, 60, 3), count), boxes, scores, count)


def of_pytorch(boxes, scores, count, threshold):
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


@pytest.mark.parametrize(("count", "threshold"), [(7, 0.0), (60, 0.8001), (180, 0.5)])
def test_the_best_are_those_of_pytorch(count, threshold, check):
    check(
        lambda boxes, scores: list(best_detections(boxes, scores, count, threshold)),
        lambda boxes, scores: of_pytorch(boxes, scores, count, threshold),
        *tensors(),
        dynamic=[("B", 60, 4), ("B", 60, 3)],
    )


def test_an_engine_builds():
    trtnet.build(network((2, 60, 3), 40))


def test_what_does_not_fit_is_refused():
    net = trtnet.Network("rtx")
    boxes, scores = net.input("boxes", (1, 5, 4)), net.input("scores", (1, 5, 2))
    with pytest.raises(ShapeError, match="do not fit together"):
        best_detections(boxes[:, :4], scores, 3)
    with pytest.raises(UsageError, match=r"1\.\.3840"):
        best_detections(boxes, scores, 4000)
    with pytest.raises(UsageError, match="score_threshold"):
        best_detections(boxes, scores, 3, 1.5)
