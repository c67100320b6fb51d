from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms


def boxes_and_scores(rng, batch=2, count=30, classes=3, per_class=False):
    corner = rng.uniform(0, 10, (batch, count, classes if per_class else 1, 2))
    size = rng.uniform(1, 5, corner.shape)
    boxes = np.concatenate([corner, corner + size], -1).astype(np.float32)
    scores = rng.permutation(batch * count * classes).astype(np.float32)
    return boxes, (scores / scores.size).reshape(batch, count, classes)


def expected(boxes, scores, most, iou, threshold):
    """torchvision's NMS class by class, then sorted the way TensorRT documents."""
    rows = []
    for item, (own, score) in enumerate(zip(boxes, scores, strict=True)):
        flat = [
            (score[box, label], label, box, own[box, label % own.shape[1]])
            for box in range(score.shape[0])
            for label in range(score.shape[1])
            if score[box, label] > threshold
        ]
        values, labels, indices, corners = (np.array(column) for column in zip(*flat, strict=True))
        kept = batched_nms(*map(torch.from_numpy, (corners, values, labels)), iou)
        taken: dict[int, int] = {}
        for k in kept.tolist():
            taken[labels[k]] = taken.get(labels[k], 0) + 1
            if taken[labels[k]] <= most:
                rows.append((item, labels[k], indices[k]))
    return np.array(rows)


def nms(raw, boxes, scores, most, iou=None, threshold=None, **attributes):
    inputs = [raw.input(boxes), raw.input(scores), raw.const(most, np.int32)]
    layer = raw.net.add_nms(*inputs)
    for position, value in ((3, iou), (4, threshold)):
        if value is not None:
            layer.set_input(position, raw.const(value))
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


def test_every_box_format_is_tested(rtx):
    assert set(rtx.trt.BoundingBoxFormat.__members__) == {"CORNER_PAIRS", "CENTER_SIZES"}


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("most", "iou", "threshold"), [(30, 0.3, 0.0), (2, 0.5, 0.4)])
def test_nms(raw, rng, per_class, most, iou, threshold):
    boxes, scores = boxes_and_scores(rng, per_class=per_class)
    given = boxes if per_class else boxes[:, :, 0]
    rows, count = raw.run(nms(raw, given, scores, most, iou, threshold))
    wanted = expected(boxes, scores, most, iou, threshold)
    np.testing.assert_array_equal(rows, wanted)
    assert count == len(wanted)


@pytest.mark.parametrize("index_type", ["int32", "int64"])
def test_formats_of_boxes(raw, rng, index_type):
    boxes, scores = boxes_and_scores(rng)
    wanted = expected(boxes, scores, 30, 0.3, 0.0)
    low, high = boxes[:, :, 0, :2], boxes[:, :, 0, 2:]
    centers = np.concatenate([(low + high) / 2, high - low], -1)
    flipped = np.concatenate([np.stack([high[..., 0], low[..., 1]], -1),
                              np.stack([low[..., 0], high[..., 1]], -1)], -1)  # fmt: skip
    format_ = raw.trt.BoundingBoxFormat
    for given, name in ((centers, "CENTER_SIZES"), (flipped, "CORNER_PAIRS")):
        layer = nms(raw, given, scores, 30, 0.3, bounding_box_format=getattr(format_, name))
        layer.indices_type = getattr(raw.trt, index_type)
        raw.net.mark_output(layer.get_output(0))
        rows = raw.run(layer)[0]
        assert rows.dtype == index_type
        np.testing.assert_array_equal(rows, wanted)


def test_defaults_drop_every_overlap(raw):
    boxes = np.array([[[0, 0, 2, 2], [1, 1, 3, 3], [2, 2, 4, 4], [9, 9, 9, 9]]], np.float32)
    scores = np.array([[[0.9], [0.8], [0.7], [0.0]]], np.float32)
    rows, count = raw.run(nms(raw, boxes, scores, 10))
    assert rows.tolist() == [[0, 0, 0], [0, 0, 2]]  # those that only touch stay; 0 is no score
    assert count == 2


def test_only_the_best_boxes_are_looked_at(raw, rng):
    boxes, scores = boxes_and_scores(rng)
    rows, _ = raw.run(nms(raw, boxes[:, :, 0], scores, 30, 1.0, topk_box_limit=7))
    for item in range(2):
        order = np.argsort(-scores[item].reshape(-1))[:7]
        assert rows[rows[:, 0] == item][:, 1:].tolist() == [[k % 3, k // 3] for k in order]


def test_nothing_above_the_threshold(raw, rng):
    boxes, scores = boxes_and_scores(rng)
    rows, count = raw.run(nms(raw, boxes[:, :, 0], scores, 5, 0.5, 2.0))
    assert rows.shape == (0, 3)
    assert count == 0


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
@pytest.mark.parametrize("index_type", ["int32", "int64"])
def test_non_zero(raw, rng, dtype, index_type):
    x = rng.integers(0, 2, (3, 4, 5)).astype(dtype)
    layer = raw.net.add_non_zero(raw.input(x, dynamic=(1,)), getattr(raw.trt, index_type))
    (found,) = raw.run(layer)
    assert found.dtype == index_type
    np.testing.assert_array_equal(found, np.array(np.nonzero(x)))


def test_non_zero_of_nothing(raw):
    layer = raw.net.add_non_zero(raw.input(np.zeros((2, 3), np.float32)))
    assert raw.run(layer)[0].shape == (2, 0)
