"""The stages of Faster, Mask and Keypoint R-CNN, each against torchvision's module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import faster_rcnn, keypoint_rcnn, mask_rcnn, rpn
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchAnchors
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import boxes as box_ops

import trtnet
from trtnet import nn
from trtnet.detection import AnchorGenerator
from trtnet.zoo.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from trtnet.zoo.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from trtnet.zoo.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from trtnet.zoo.detection.rpn import RegionProposalNetwork, RPNHead

CHANNELS, HEIGHT, WIDTH = 8, 96, 128
STRIDES = (4, 8, 16)
SIZES = np.array([[96, 128], [70, 101]], np.int32)
NORM, TORCH_NORM = nn.BatchNorm2d, torch.nn.BatchNorm2d

PARTS = {
    "two layers": (TwoMLPHead(3 * 25, 7), faster_rcnn.TwoMLPHead(3 * 25, 7), (4, 3, 5, 5)),
    "convolutions": (
        FastRCNNConvFCHead((3, 5, 5), [4, 6], [8, 7], NORM),
        faster_rcnn.FastRCNNConvFCHead((3, 5, 5), [4, 6], [8, 7], TORCH_NORM),
        (4, 3, 5, 5),
    ),
    "predictor": (FastRCNNPredictor(6, 4), faster_rcnn.FastRCNNPredictor(6, 4), (5, 6)),
    "mask head": (MaskRCNNHeads(3, [4, 5]), mask_rcnn.MaskRCNNHeads(3, [4, 5], 1), (2, 3, 6, 6)),
    "mask head with norm": (
        MaskRCNNHeads(3, [4, 5], NORM),
        mask_rcnn.MaskRCNNHeads(3, [4, 5], 1, TORCH_NORM),
        (2, 3, 6, 6),
    ),
    "mask predictor": (
        MaskRCNNPredictor(3, 4, 5),
        mask_rcnn.MaskRCNNPredictor(3, 4, 5),
        (2, 3, 6, 6),
    ),
    "keypoint head": (
        KeypointRCNNHeads(3, [4, 5]),
        keypoint_rcnn.KeypointRCNNHeads(3, [4, 5]),
        (2, 3, 6, 6),
    ),
    "keypoint predictor": (
        KeypointRCNNPredictor(3, 5),
        keypoint_rcnn.KeypointRCNNPredictor(3, 5),
        (2, 3, 6, 6),
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_heads_compute_what_torchvisions_do(part, check_module):
    ours, theirs, shape = PARTS[part]
    check_module(ours, theirs, shape, rtol64=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_head_of_proposals(depth, check_module):
    check_module(
        RPNHead(3, 2, depth),
        rpn.RPNHead(3, 2, depth),
        (2, 3, 6, 7),
        (2, 3, 3, 4),
        call=lambda module, *features: [x for level in module(list(features)) for x in level],
    )


@pytest.fixture(autouse=True)
def per_class(monkeypatch):
    """torchvision's batched_nms of few boxes moves them apart by offsets, which rounding disturbs;
    the rule itself is the suppression of one class after the other."""
    monkeypatch.setattr(box_ops, "_batched_nms_coordinate_trick", box_ops._batched_nms_vanilla)


def features_of(seed=0, channels=CHANNELS):
    rng = np.random.default_rng(seed)
    sizes = [(2, channels, HEIGHT // s, WIDTH // s) for s in STRIDES]
    return [rng.standard_normal(size).astype(np.float32) for size in sizes]


def proposals_of(limits, values, edit=None):
    """torchvision's proposals and ours, of each image."""
    anchor_sizes, ratios = ((8, 12), (24, 30), (60, 70)), ((0.5, 1.0, 2.0),) * 3
    torch.manual_seed(0)
    theirs = rpn.RegionProposalNetwork(
        TorchAnchors(anchor_sizes, ratios), rpn.RPNHead(CHANNELS, 6), 0.7, 0.3, 256, 0.5,
        {"testing": limits[0]}, {"testing": limits[1]}, limits[2], limits[3],
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.12)
        if edit:
            edit(theirs)
    ours = RegionProposalNetwork(
        AnchorGenerator(anchor_sizes, ratios), RPNHead(CHANNELS, 6), *limits
    )
    ours.load_state_dict(theirs.state_dict())
    images = ImageList(torch.zeros(2, 3, HEIGHT, WIDTH), SIZES.tolist())
    named = {str(i): torch.from_numpy(x) for i, x in enumerate(values)}
    with torch.no_grad():
        wanted, _ = theirs(images, named)
    net = trtnet.Network("rtx")
    image, sizes = net.input("image", (2, 3, HEIGHT, WIDTH)), net.input("sizes", (2, 2), "int32")
    levels = [net.input(f"x{i}", x.shape) for i, x in enumerate(values)]
    found = ours(image, levels, sizes)
    net.output("boxes", found.boxes)
    net.output("is_one", found.is_one.int())
    arrays = {f"x{i}": x for i, x in enumerate(values)}
    blank = np.zeros((2, 3, HEIGHT, WIDTH), np.float32)
    ran = trtnet.reference.run(net, {"image": blank, "sizes": SIZES, **arrays})
    return [boxes.numpy() for boxes in wanted], np.asarray(ran["boxes"]), np.asarray(ran["is_one"])


@pytest.mark.parametrize(
    "limits",
    [(100, 60, 0.7, 0.0), (1000, 1000, 0.7, 0.05), (100, 1000, 0.5, 0.5), (30, 30, 0.9, 0.65)],
    ids=str,
)
def test_the_same_proposals_in_the_same_order(limits):
    wanted, boxes, is_one = proposals_of(limits, features_of())
    for image, expected in enumerate(wanted):
        count = len(expected)
        assert count > 10
        assert is_one[image].tolist() == [1] * count + [0] * (boxes.shape[1] - count)
        apart = np.abs(boxes[image, :count, None] - expected[None]).max(2)
        assert (apart.min(1) < 1e-3).all()
        assert (np.abs(apart.argmin(1) - np.arange(count)) <= 1).all()  # scores differ by rounding
        assert len(np.unique(apart.argmin(1))) == count
        assert not boxes[image, count:].any()


def test_no_proposal():
    def unlikely(theirs):
        theirs.head.cls_logits.bias.fill_(-50.0)

    wanted, boxes, is_one = proposals_of((50, 40, 0.7, 0.05), features_of(), unlikely)
    assert [len(each) for each in wanted] == [0, 0]
    assert not is_one.any()
    assert not boxes.any()


def test_proposals_of_nan_and_without_area_are_none():
    values = features_of()
    values[0][:, :, :4] = np.nan

    def thin(theirs):
        theirs.head.bbox_pred.bias[2::8] = -60.0  # of every second anchor

    wanted, boxes, is_one = proposals_of((5000 // 10, 500, 0.7, 0.0), values, thin)
    for image, expected in enumerate(wanted):
        assert np.isfinite(boxes).all()
        count = int(is_one[image].sum())
        found = {tuple(np.round(box, 1)) for box in boxes[image, :count]}
        same = sum(tuple(np.round(box, 1)) in found for box in expected)
        assert same >= 0.98 * len(expected)
