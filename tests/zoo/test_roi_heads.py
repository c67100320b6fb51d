"""Detections, masks and keypoints from proposals, against torchvision's RoIHeads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import faster_rcnn, keypoint_rcnn, mask_rcnn
from torchvision.models.detection.roi_heads import RoIHeads as TorchRoIHeads
from torchvision.ops import MultiScaleRoIAlign as TorchPool
from torchvision.ops import boxes as box_ops

import trtnet
from trtnet.detection import Suppression, heatmap_keypoints
from trtnet.zoo.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from trtnet.zoo.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from trtnet.zoo.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from trtnet.zoo.detection.roi_heads import MultiScaleRoIAlign, RoIHeads
from trtnet.zoo.detection.rpn import Proposals

CHANNELS, HEIGHT, WIDTH = 8, 96, 128
STRIDES = (4, 8, 16)
NAMES = ("0", "1", "2")
SIZES = np.array([[96, 128], [70, 101]], np.int32)
COUNTS = (80, 45)  # proposals of each image
Arrays = dict[str, np.ndarray]

EXTRAS = {
    "nothing": lambda: ((None, None, None), (None, None, None)),
    "masks": lambda: (
        (MultiScaleRoIAlign(NAMES, STRIDES, 4), MaskRCNNHeads(CHANNELS, [6]),
         MaskRCNNPredictor(6, 5, 4)),
        (TorchPool(NAMES, 4, 2), mask_rcnn.MaskRCNNHeads(CHANNELS, [6], 1),
         mask_rcnn.MaskRCNNPredictor(6, 5, 4)),
    ),
    "keypoints": lambda: (
        (MultiScaleRoIAlign(NAMES, STRIDES, 4), KeypointRCNNHeads(CHANNELS, [6]),
         KeypointRCNNPredictor(6, 3)),
        (TorchPool(NAMES, 4, 2), keypoint_rcnn.KeypointRCNNHeads(CHANNELS, [6]),
         keypoint_rcnn.KeypointRCNNPredictor(6, 3)),
    ),
}  # fmt: skip


def pair(extra: str, threshold: float) -> tuple[RoIHeads, TorchRoIHeads]:
    """Ours and torchvision's, with the same weights, which leave many classes likely."""
    torch.manual_seed(1)
    mine, torchvisions = EXTRAS[extra]()
    before = (None,) * 3 if extra == "keypoints" else ()
    theirs = TorchRoIHeads(
        TorchPool(NAMES, 3, 2), faster_rcnn.TwoMLPHead(CHANNELS * 9, 16),
        faster_rcnn.FastRCNNPredictor(16, 4), 0.5, 0.5, 512, 0.25, None, threshold, 0.5, 30,
        *before, *torchvisions,
    ).eval()  # fmt: skip
    with torch.no_grad():
        theirs.box_predictor.cls_score.weight.normal_(0, 3.0)
    how = Suppression(0.5, threshold, 30, candidates=None)
    ours = RoIHeads(
        MultiScaleRoIAlign(NAMES, STRIDES, 3), TwoMLPHead(CHANNELS * 9, 16),
        FastRCNNPredictor(16, 4), how, *before, *mine,
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def inputs() -> Arrays:
    rng = np.random.default_rng(4)
    first = rng.random((2, max(COUNTS), 2)) * [WIDTH * 0.7, HEIGHT * 0.7]
    boxes = np.concatenate([first, first + 5 + rng.random(first.shape) * 60], 2)
    is_one = np.arange(max(COUNTS)) < np.array(COUNTS)[:, None]
    boxes = boxes.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT]) * is_one[..., None]
    sizes = [(2, CHANNELS, HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    features = {name: rng.standard_normal(size) for name, size in zip(NAMES, sizes, strict=True)}
    arrays = {**features, "boxes": boxes, "is_one": is_one}
    return {name: x.astype(np.float32) for name, x in arrays.items()} | {"sizes": SIZES}


def torchvisions(heads: TorchRoIHeads, arrays: Arrays) -> list[Arrays]:
    features = {name: torch.from_numpy(arrays[name]) for name in NAMES}
    boxes = [torch.from_numpy(b[:n]) for b, n in zip(arrays["boxes"], COUNTS, strict=True)]
    with torch.no_grad():
        found, _ = heads(features, boxes, [tuple(size) for size in SIZES.tolist()])
    return [{name: value.numpy() for name, value in image.items()} for image in found]


def run(heads: RoIHeads, arrays: Arrays, output_format: str = "efficientnms") -> Arrays:
    net = trtnet.Network("rtx")
    levels = {name: net.input(name, arrays[name].shape) for name in NAMES}
    given = net.input("boxes", arrays["boxes"].shape), net.input("is_one", (2, max(COUNTS))) > 0.5
    sizes = net.input("sizes", (2, 2), "int32")
    for name, tensor in heads(levels, Proposals(*given), sizes, output_format).items():
        net.output(name, tensor)
    return {name: np.asarray(x) for name, x in trtnet.reference.run(net, arrays).items()}


@pytest.fixture(autouse=True)
def per_class(monkeypatch):
    """torchvision's batched_nms of few boxes moves them apart by offsets, which rounding disturbs;
    the rule itself is the suppression of one class after the other."""
    monkeypatch.setattr(box_ops, "_batched_nms_coordinate_trick", box_ops._batched_nms_vanilla)


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.999])
def test_what_is_found_in_proposals(extra, threshold):
    """Proposals are padded here, and lists of different lengths in torchvision."""
    ours, theirs = pair(extra, threshold)
    arrays = inputs()
    got = run(ours, arrays)
    wanted = torchvisions(theirs, arrays)
    assert sum(len(image["scores"]) for image in wanted) >= 20 or threshold > 0.9
    for image, expected in enumerate(wanted):
        count = len(expected["scores"])
        assert got["num_dets"][image, 0] == count
        mine = {name: x[image, :count] for name, x in got.items() if name != "num_dets"}
        assert not any(x[image, count:].any() for name, x in got.items() if name != "num_dets")
        assert mine["det_classes"].tolist() == expected["labels"].tolist()
        np.testing.assert_allclose(mine["det_scores"], expected["scores"], atol=1e-5)
        np.testing.assert_allclose(mine["det_boxes"], expected["boxes"], atol=1e-3)
        if extra == "masks":
            np.testing.assert_allclose(mine["det_masks"], expected["masks"][:, 0], atol=1e-5)
        if extra == "keypoints":
            found = heatmap_keypoints(mine["det_keypoints"], mine["det_boxes"])
            np.testing.assert_allclose(found.points, expected["keypoints"][..., :2], atol=1e-3)
            np.testing.assert_allclose(found.scores, expected["keypoints_scores"], atol=1e-4)
