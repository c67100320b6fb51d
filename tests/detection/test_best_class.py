"""Detections of boxes with their best class alone, against a plain program on
``torchvision.ops.nms``."""

from __future__ import annotations

import numpy as np
import pytest
from nms_oracle import KINDS, wanted

import trtnet
from trtnet import detection, reference
from trtnet.detection import Suppression
from trtnet.errors import UsageError

WAYS = {
    "together": Suppression(candidates=100, max_detections=20),
    "few of a class": Suppression(candidates=60, max_detections=60, max_per_class=3),
    "by image": Suppression(candidates=100, images="one by one"),
    "high": Suppression(iou_threshold=1.0, score_threshold=0.9, candidates=100),
}


def network(choose, shape, how, precision="fp32"):
    """A network of N boxes and C classes, (B, N, C)."""
    net = trtnet.Network("rtx", precision=precision)
    found = choose(net.input("boxes", (*shape[:2], 4)), net.input("scores", shape), how)
    for name, value in found._asdict().items():
        net.output(name, value)
    return net


def run(net, kind, count=60, classes=3):
    rng = np.random.default_rng(count)
    sets = [KINDS[kind](rng, count, classes) for _ in range(2)]
    boxes, scores = (np.stack(part) for part in zip(*sets, strict=True))
    found = reference.run(net, {"boxes": boxes, "scores": scores})
    return boxes, scores, {name: np.asarray(value) for name, value in found.items()}


def assert_pairs(found, image, boxes, scores, pairs):
    number = found["num_dets"][image, 0]
    assert number == len(pairs)
    index, label = found["det_indices"][image], found["det_classes"][image]
    assert list(zip(label[:number], index[:number], strict=True)) == pairs
    corners = [boxes[image, n] for _, n in pairs]
    assert np.array_equal(found["det_boxes"][image, :number], np.reshape(corners, (-1, 4)))
    assert [*found["det_scores"][image, :number]] == [scores[image, n, c] for c, n in pairs]
    for name in ("det_boxes", "det_scores", "det_classes", "det_indices"):
        assert not found[name][image, number:].any(), name


@pytest.mark.parametrize("how", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 60, 3), ("B", "N", 3)], ids=str)
def test_a_box_takes_part_with_its_best_class(how, kind, shape):
    net = network(detection.detections_of_best_class, shape, how)
    boxes, scores, found = run(net, kind)
    for image in range(2):
        alone = np.zeros_like(scores[image])
        best = np.where(np.isnan(scores[image]), -1, scores[image]).argmax(1)
        at = np.arange(len(best)), best
        alone[at] = scores[image][at]
        assert_pairs(found, image, boxes, scores, wanted(boxes[image], alone, how))


def test_an_engine_builds():
    choose = detection.detections_of_best_class
    trtnet.build(network(choose, (2, 60, 3), Suppression(candidates=40)))


def test_a_number_of_candidates_is_needed():
    with pytest.raises(UsageError, match="topk_candidates"):
        network(detection.detections_of_best_class, (2, 60, 3), Suppression(candidates=None))
