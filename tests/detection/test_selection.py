"""Detections, against a plain program on ``torchvision.ops.nms``."""

from __future__ import annotations

import numpy as np
import pytest
from nms_oracle import KINDS, wanted

import trtnet
from trtnet import detection, reference
from trtnet.detection import Suppression
from trtnet.errors import ShapeError, UsageError

WAYS = {
    "together": Suppression(candidates=100, max_detections=20),
    "per class": Suppression(candidates=150, max_detections=60, max_per_class=4),
    "class by class": Suppression(candidates=None, max_detections=60),
    "few of a class": Suppression(candidates=None, max_detections=60, max_per_class=3),
    "across classes": Suppression(iou_threshold=0.3, candidates=180, across_classes=True),
    "unrolled": Suppression(candidates=100, form="unrolled", rounds=100),
    "by image": Suppression(candidates=100, images="one by one"),
    "by image and class": Suppression(candidates=None, images="one by one"),
    "low": Suppression(iou_threshold=0.0, score_threshold=0.0, candidates=100),
    "high": Suppression(iou_threshold=1.0, score_threshold=0.9, candidates=100),
}


def network(shape, how, own=False, precision="fp32"):
    """A network of N boxes and C classes, (B, N, C)."""
    net = trtnet.Network("rtx", precision=precision)
    boxes = net.input("boxes", (*shape, 4) if own else (*shape[:2], 4))
    found = detection.detections(boxes, net.input("scores", shape), how)
    for name, value in found._asdict().items():
        net.output(name, value)
    return net


def check(net, how, count, classes, own=False, seed=0):
    for kind, make in KINDS.items():
        rng = np.random.default_rng([seed, count])
        sets = [make(rng, count, classes) for _ in range(2)]
        boxes, scores = (np.stack(part) for part in zip(*sets, strict=True))
        if own:
            moved = rng.integers(-2, 3, (2, count, classes, 1)).astype(np.float32) * 4
            boxes = boxes[:, :, None].repeat(classes, 2) + moved
        ran = reference.run(net, {"boxes": boxes, "scores": scores})
        found = {name: np.asarray(value) for name, value in ran.items()}
        for image in range(2):
            pairs = wanted(boxes[image], scores[image], how)
            number = found["num_dets"][image, 0]
            assert number == len(pairs), kind
            index = found["det_indices"][image]
            label = found["det_classes"][image]
            assert list(zip(label[:number], index[:number], strict=True)) == pairs, kind
            corners = [boxes[image][(n, c) if own else n] for c, n in pairs]
            assert np.array_equal(found["det_boxes"][image, :number], np.reshape(corners, (-1, 4)))
            assert [scores[image, n, c] for c, n in pairs] == [
                *found["det_scores"][image, :number]
            ], kind
            for name in ("det_boxes", "det_scores", "det_classes", "det_indices"):
                assert not found[name][image, number:].any(), name


@pytest.mark.parametrize("how", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("own", [False, True], ids=["shared boxes", "boxes of classes"])
def test_the_same_boxes(how, own):
    net = network((2, 60, 3), how, own)
    check(net, how, 60, 3, own)
    trtnet.build(net)


@pytest.mark.parametrize("how", [WAYS["together"], WAYS["class by class"], WAYS["by image"]])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_any_number_of_boxes_and_images(how, precision):
    net = network(("B", "N", 3), how, precision=precision)
    for count in (1, 2, 7, 90):
        check(net, how, count, 3)
    sizes = [(1, 1), (2, 60), (4, 200)]
    shapes = {
        "boxes": trtnet.Shapes(*((*size, 4) for size in sizes)),
        "scores": trtnet.Shapes(*((*size, 3) for size in sizes)),
    }
    trtnet.build(net, shapes)


def test_one_class():
    how = Suppression(iou_threshold=0.7, candidates=50, max_detections=300)
    check(network((2, 60, 1), how), how, 60, 1)


def test_too_few_rounds_are_told():
    how = Suppression(candidates=40, form="unrolled", rounds=8)
    boxes, scores = KINDS["chain"](np.random.default_rng(0), 40, 1)
    net = network((1, 40, 1), how)
    found = reference.run(net, {"boxes": boxes[None], "scores": scores[None]})
    assert np.asarray(found["num_dets"]).tolist() == [[-1]]
    enough = Suppression(candidates=40, form="unrolled", rounds=40)
    check(network((2, 40, 1), enough), enough, 40, 1)


def test_positions_beyond_what_tf32_holds():
    """Counts and positions go through products of float32, which a GPU may compute in TF32."""
    how = Suppression(candidates=2500, max_detections=2500, iou_threshold=1.0)
    boxes, scores = KINDS["clustered"](np.random.default_rng(0), 2500, 1)
    net = network((1, 2500, 1), how)
    found = reference.run(net, {"boxes": boxes[None], "scores": scores[None]})
    classes, indices = (np.asarray(found[n])[0] for n in ("det_classes", "det_indices"))
    pairs = wanted(boxes, scores, how)
    assert list(zip(classes, indices, strict=True))[: len(pairs)] == pairs
    assert indices[: len(pairs)].max() > 2048


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"candidates": 5000}, "candidates is a number of boxes"),
        ({"max_detections": 0}, "max_detections is a number of boxes"),
        ({"max_detections": None}, "max_detections is a number of boxes"),
        ({"candidates": None, "across_classes": True}, "candidates=1000"),
        ({"images": "all"}, "together or one by one"),
        ({"form": "x"}, "loop or unrolled"),
        ({"form": "unrolled", "rounds": 0}, "rounds of suppression"),
        ({"form": "unrolled", "rounds": 2.5}, "rounds of suppression"),
        ({"rounds": True}, "rounds of suppression"),
        ({"across_classes": "no"}, "across_classes"),
    ],
)
def test_impossible_values(options, text):
    with pytest.raises(UsageError) as caught:
        Suppression(**options)
    assert text in str(caught.value)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.5", True])
def test_thresholds_are_fractions(threshold):
    for name in ("iou_threshold", "score_threshold"):
        with pytest.raises(UsageError, match=f"{name} is a fraction"):
            Suppression(**{name: threshold})


def test_shapes_that_do_not_fit():
    net = trtnet.Network("rtx")
    boxes, scores = net.input("boxes", (1, 8, 4)), net.input("scores", (1, 9, 2))
    with pytest.raises(ShapeError, match="do not fit together"):
        detection.detections(boxes, scores)
