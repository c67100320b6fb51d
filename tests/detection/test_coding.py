"""Decoding of boxes, against torchvision's coders and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection import _utils as torch_utils

import trtnet
from trtnet import detection, reference
from trtnet.detection import coding, distances
from trtnet.errors import ShapeError, UsageError


def boxes_of(rng, *shape):
    near = rng.uniform(-20, 300, (*shape, 2))
    return np.concatenate([near, near + rng.uniform(1, 200, (*shape, 2))], -1).astype(np.float32)


def run(function, precision="fp32", **arrays):
    """`function` of the inputs by name, in a network."""
    net = trtnet.Network("rtx", precision=precision)
    net.output("y", function(*(net.input(name, a.shape) for name, a in arrays.items())))
    trtnet.build(net)
    return np.asarray(reference.run(net, arrays)["y"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), coding.SSD])
def test_box_coder(weights, precision, rng):
    boxes = boxes_of(rng, 50)
    codes = (rng.standard_normal((50, 4)) * [1, 1, 3, 3]).astype(np.float32) * weights
    codes = codes.astype(np.float32)
    codes[0, 2:] = 1000.0  # beyond the clamp
    got = run(lambda c, b: detection.decode_boxes(c, b, weights), precision, codes=codes,
              boxes=boxes)  # fmt: skip
    coder = torch_utils.BoxCoder(weights)
    wanted = coder.decode_single(torch.from_numpy(codes), torch.from_numpy(boxes))
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6, atol=1e-4)


def test_a_box_for_each_class(rng):
    boxes, codes = boxes_of(rng, 30), rng.standard_normal((30, 7, 4)).astype(np.float32)
    got = run(lambda c, b: detection.decode_boxes(c, b[:, None], coding.SSD), codes=codes,
              boxes=boxes)  # fmt: skip
    flat = torch.from_numpy(codes.reshape(30, -1))
    wanted = torch_utils.BoxCoder(coding.SSD).decode(flat, [torch.from_numpy(boxes)])
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_linear_coder(normalize, precision, rng):
    boxes, codes = boxes_of(rng, 50), rng.uniform(0, 5, (2, 50, 4)).astype(np.float32)
    got = run(lambda c, b: detection.decode_linear(c, b, normalize), precision, codes=codes,
              boxes=boxes)  # fmt: skip
    coder = torch_utils.BoxLinearCoder(normalize_by_size=normalize)
    wanted = coder.decode(torch.from_numpy(codes), torch.from_numpy(boxes))
    np.testing.assert_array_equal(got, wanted.numpy())


@pytest.mark.parametrize("shape", [(2, 40), (2, 40, 3)])
def test_clip_to_the_input(shape, rng):
    boxes = boxes_of(rng, *shape)
    got = run(lambda b: detection.clip_to_image(b, (150, 200)), boxes=boxes)
    wanted = torchvision.ops.clip_boxes_to_image(torch.from_numpy(boxes), (150, 200))
    np.testing.assert_array_equal(got, wanted.numpy())


def test_clip_to_a_size_of_run_time(net, rng):
    x, boxes = net.input("x", (1, 3, "H", 200)), net.input("boxes", ("N", 40, 4))
    net.output("y", detection.clip_to_image(boxes, detection.image_size(x, None)))
    values = boxes_of(rng, 2, 40)
    for height in (100, 180):
        image = np.zeros((1, 3, height, 200), np.float32)
        got = reference.run(net, {"x": image, "boxes": values})["y"]
        wanted = torchvision.ops.clip_boxes_to_image(torch.from_numpy(values), (height, 200))
        np.testing.assert_array_equal(np.asarray(got), wanted.numpy())
    shapes = {"x": trtnet.Shapes(*((1, 3, size, 200) for size in (100, 150, 200))),
              "boxes": trtnet.Shapes(*((size, 40, 4) for size in (1, 2, 4)))}  # fmt: skip
    trtnet.build(net, shapes)


@pytest.mark.parametrize("shape", [(2, 40), (2, 40, 3)])
def test_clip_to_the_sizes_of_each_image(shape, rng):
    boxes, sizes = boxes_of(rng, *shape), np.array([[100, 180], [250, 90]], np.int32)
    net = trtnet.Network("rtx")
    image_sizes = net.input("image_sizes", (2, 2), dtype="int32")
    net.output("y", detection.clip_to_image(net.input("boxes", boxes.shape), image_sizes))
    got = np.asarray(reference.run(net, {"boxes": boxes, "image_sizes": sizes})["y"])
    for index, size in enumerate(sizes.tolist()):
        wanted = torchvision.ops.clip_boxes_to_image(torch.from_numpy(boxes[index]), size)
        np.testing.assert_array_equal(got[index], wanted.numpy())
    trtnet.build(net)


def test_boxes_around_points(rng):
    points = rng.uniform(0, 100, (30, 2)).astype(np.float32)
    sides = rng.uniform(0, 50, (2, 30, 4)).astype(np.float32)
    got = run(distances.boxes_around, points=points, sides=sides)
    wanted = np.concatenate([points - sides[..., :2], points + sides[..., 2:]], -1)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("bins", [16, 17])
def test_expected_distances(bins, precision, rng):
    logits = (rng.standard_normal((2, 30, 4 * bins)) * 4).astype(np.float32)
    got = run(lambda x: distances.expected_distances(x, bins), precision, logits=logits)
    chances = torch.softmax(torch.from_numpy(logits).double().reshape(2, 30, 4, bins), -1)
    wanted = chances @ torch.arange(bins, dtype=torch.float64)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_shapes_that_do_not_fit(net):
    five, four, sizes = (net.input(n, s) for n, s in
                         (("a", (2, 5)), ("b", (2, 4)), ("c", (2, 3))))  # fmt: skip
    for call in (
        lambda: detection.decode_boxes(five, four),
        lambda: detection.decode_linear(four, five),
        lambda: detection.clip_to_image(five, (3, 4)),
        lambda: distances.boxes_around(four, four),
        lambda: distances.expected_distances(five, 16),
    ):
        with pytest.raises(ShapeError, match="numbers each"):
            call()
    with pytest.raises(ShapeError, match="sizes of images"):
        detection.clip_to_image(four, sizes)
    for weights in ((1, 1, 1), (1, 1, 0, 1)):
        with pytest.raises(UsageError, match="4 positive numbers"):
            detection.decode_boxes(four, four, weights)
