"""Pooling of boxes from a pyramid, against torchvision's MultiScaleRoIAlign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

import trtnet
from trtnet.detection.roi_align import Pyramid, pyramid_level
from trtnet.errors import ShapeError, UsageError

HEIGHT, WIDTH = 128, 192
STRIDES = (4, 8, 16, 32)


def boxes_of(rng, batch=2, count=40):
    """Boxes of all sizes, some touching the edges of the image, and one without area."""
    centre = rng.random((batch, count, 2)) * [WIDTH, HEIGHT]
    half = np.exp(rng.uniform(-1, 5.5, (batch, count, 1))) * rng.uniform(0.5, 2, (batch, count, 2))
    corners = np.concatenate([centre - half / 2, centre + half / 2], 2)
    corners = np.clip(corners, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    corners[:, 0] = 0
    corners[:, 1] = [0, 0, WIDTH, HEIGHT]
    return corners.astype(np.float32)


def features_of(rng, strides, batch=2, channels=3):
    return [
        rng.standard_normal((batch, channels, HEIGHT // s, WIDTH // s)).astype(np.float32)
        for s in strides
    ]


def torchvisions(strides, size, ratio):
    names = [str(i) for i in range(len(strides))]
    pool = MultiScaleRoIAlign(names, size, ratio)

    def call(boxes, *features):
        found = pool(dict(zip(names, features, strict=True)), list(boxes), [(HEIGHT, WIDTH)] * 2)
        return found.reshape(*boxes.shape[:2], *found.shape[1:])

    return call


@pytest.mark.parametrize(
    ("strides", "size", "ratio"),
    [(STRIDES, (7, 7), 2), ((8, 16), (3, 5), 1), ((32,), (2, 2), 3)],
    ids=str,
)
def test_boxes_are_pooled_as_by_torchvision(strides, size, ratio, rng, check):
    check(
        lambda boxes, *features: Pyramid(features, strides).pool(boxes, size, ratio),
        torchvisions(strides, size, ratio),
        boxes_of(rng),
        *features_of(rng, strides),
        dynamic=[("B", "K", 4), *(("B", 3, f"H{s}", f"W{s}") for s in strides)],
    )


def test_half_precision_sums_in_single(rng):
    boxes, features = boxes_of(rng), features_of(rng, STRIDES)
    net = trtnet.Network("rtx")
    halves = [net.input(f"x{i}", x.shape).half() for i, x in enumerate(features)]
    pooled = Pyramid(halves, STRIDES).pool(net.input("boxes", boxes.shape), (7, 7), 2)
    assert pooled.dtype is trtnet.float16
    net.output("y", pooled)
    values = {f"x{i}": x for i, x in enumerate(features)}
    got = np.asarray(trtnet.reference.run(net, {**values, "boxes": boxes})["y"], np.float32)
    rounded = [torch.from_numpy(x).half().float() for x in features]
    wanted = torchvisions(STRIDES, (7, 7), 2)(torch.from_numpy(boxes), *rounded)
    assert np.array_equal(got, wanted.half().float().numpy()) or (
        np.abs(got - wanted.numpy()).max() <= 2**-11 * np.abs(wanted.numpy()).max()
    )


def test_the_level_of_every_size_near_a_border_is_torchvisions():
    """Also of those that the addition of 1e-6 and rounding decide."""
    sides = []
    for border in (112.0, 224.0, 448.0):
        near = np.float32(border).view(np.int32) + np.arange(-40, 10, dtype=np.int32)
        sides += near.view(np.float32).tolist()
    sides += [0.0, 1e-3, 55.9, 112.1, 300.0, 1000.0, 5000.0]
    side = np.array(sides, np.float32)
    boxes = np.stack([np.zeros_like(side)] * 2 + [side] * 2, 1)[None]
    net = trtnet.Network("rtx")
    net.output("y", pyramid_level(net.input("boxes", boxes.shape), STRIDES))
    got = np.asarray(trtnet.reference.run(net, {"boxes": boxes})["y"])[0]
    wanted = LevelMapper(2, 5)([torch.from_numpy(boxes[0])])
    assert got.tolist() == wanted.tolist()


def test_impossible_pyramids_and_boxes(net):
    levels = [net.input(f"x{i}", (2, 3, 32 >> i, 32 >> i)) for i in range(2)]
    for strides in [(4,), (4, 16), (3, 6), ()]:
        with pytest.raises(UsageError, match="powers of two that double"):
            Pyramid(levels, strides)
    pyramid = Pyramid(levels, (4, 8))
    with pytest.raises(ShapeError, match="do not fit together"):
        pyramid.pool(net.input("boxes", (3, 9, 4)), (7, 7), 2)
    with pytest.raises(UsageError, match="sampling_ratio"):
        pyramid.pool(net.input("others", (2, 9, 4)), (7, 7), -1)
