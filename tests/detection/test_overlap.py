"""Areas and overlaps, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from nms_oracle import KINDS

import trtnet
from trtnet import detection, reference
from trtnet.detection.overlap import below
from trtnet.errors import ShapeError, UsageError


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_areas_and_overlaps(precision):
    net = trtnet.Network("rtx", precision=precision)
    first, second = net.input("first", (40, 4)), net.input("second", (7, 4))
    net.output("area", detection.box_area(first))
    net.output("iou", detection.box_iou(first, second))
    trtnet.build(net)
    for make in KINDS.values():
        boxes = make(np.random.default_rng(0), 40, 1)[0]
        found = reference.run(net, {"first": boxes, "second": boxes[:7]})
        given = torch.from_numpy(boxes)
        area, iou = (np.asarray(found[name]) for name in ("area", "iou"))
        assert np.array_equal(area, torchvision.ops.box_area(given).numpy())
        np.testing.assert_array_equal(iou, torchvision.ops.box_iou(given, given[:7]).numpy())


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.45, 0.5, 0.6, 0.7, 1.0])
def test_below_decides_as_the_real_number(threshold):
    near = np.float32(threshold)
    for value in (np.nextafter(near, np.float32(-9)), near, np.nextafter(near, np.float32(9))):
        assert (float(value) > threshold) == (value > np.float32(below(threshold)))


def test_what_is_no_box():
    net = trtnet.Network("rtx")
    with pytest.raises(ShapeError, match="boxes have four corners"):
        detection.box_area(net.input("x", (3, 5)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"form": "while"}, "loop or unrolled"),
        ({"form": "unrolled", "rounds": 0}, "a whole number from 1"),
        ({"iou_threshold": 2}, "iou_threshold is a fraction"),
    ],
)
def test_suppression_that_cannot_be(options, text):
    net = trtnet.Network("rtx")
    boxes, scores = net.input("boxes", (1, 8, 4)), net.input("scores", (1, 8))
    better = detection.is_better(scores)
    options = {"iou_threshold": 0.5, **options}
    with pytest.raises(UsageError) as caught:
        detection.suppress(boxes, scores > 0.5, better, **options)
    assert text in str(caught.value)


def test_boxes_and_candidates_of_other_numbers():
    net = trtnet.Network("rtx")
    boxes, scores = net.input("boxes", (1, 8, 4)), net.input("scores", (1, 9))
    with pytest.raises(ShapeError, match="do not fit together"):
        detection.suppress(boxes, scores > 0.5, detection.is_better(scores), 0.5)
