"""Anchors, against torchvision's generators: static sizes, and sizes known at run time only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import anchor_utils
from torchvision.models.detection.image_list import ImageList

import trtnet
from trtnet import detection, reference
from trtnet.errors import UsageError

RETINANET = (
    tuple((x, int(x * 2 ** (1.0 / 3)), int(x * 2 ** (2.0 / 3))) for x in (32, 64, 128)),
    ((0.5, 1.0, 2.0),) * 3,
)
FCOS = (((8,), (16,), (32,)), ((1.0,),) * 3)
RCNN = (((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
SSD = {
    "aspect_ratios": [[2], [2, 3], [2, 3]],
    "scales": [0.07, 0.15, 0.33, 1.05],
    "steps": [8, 16, 32],
}
SSDLITE = {"aspect_ratios": [[2, 3]] * 3, "min_ratio": 0.2, "max_ratio": 0.95}
PAIRS = {
    "retinanet": (detection.AnchorGenerator, anchor_utils.AnchorGenerator, RETINANET, {}),
    "fcos": (detection.AnchorGenerator, anchor_utils.AnchorGenerator, FCOS, {}),
    "rcnn": (detection.AnchorGenerator, anchor_utils.AnchorGenerator, RCNN, {}),
    "ssd": (detection.DefaultBoxGenerator, anchor_utils.DefaultBoxGenerator, (), SSD),
    "ssdlite": (detection.DefaultBoxGenerator, anchor_utils.DefaultBoxGenerator, (), SSDLITE),
    "one level": (detection.DefaultBoxGenerator, anchor_utils.DefaultBoxGenerator,
                  (), {"aspect_ratios": [[2]], "clip": False}),
}  # fmt: skip
STRIDES = (8, 16, 32)


def pyramid(x, levels):
    """Features of the sizes that convolutions of stride 2 and padding 1 would have."""
    found = []
    for stride in STRIDES[:levels]:
        height, width = ((size + stride - 1) // stride for size in x.shape[-2:])
        found.append(x[:, :1, :height, :width])
    return found


def torch_anchors(generator, shape, levels):
    x = torch.zeros(shape)
    features = pyramid(x, levels)
    images = ImageList(x, [tuple(x.shape[-2:])] * len(x))
    return generator(images, features)[0].numpy()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", PAIRS)
def test_anchors(name, precision):
    ours, theirs, args, options = PAIRS[name]
    generator, twin = ours(*args, **options), theirs(*args, **options)
    assert generator.num_anchors_per_location() == twin.num_anchors_per_location()
    levels = len(generator.num_anchors_per_location())
    shapes = [(2, 3, 64, 96), (2, 3, 97, 50), (2, 3, 33, 130)]
    for declared in (*shapes, (2, 3, "H", "W"), ("N", 3, "H", 96)):
        net = trtnet.Network("rtx", precision=precision)
        x = net.input("x", declared)
        found = generator(x, pyramid(x, levels))
        for level, boxes in enumerate(found):
            assert boxes.dtype is trtnet.float32
            net.output(f"boxes{level}", boxes)
        for shape in shapes:
            if declared not in (shape, (2, 3, "H", "W")) and (declared[0], shape[3]) != ("N", 96):
                continue
            got = reference.run(net, {"x": np.zeros(shape, np.float32)})
            got = np.concatenate([np.asarray(got[f"boxes{level}"]) for level in range(levels)])
            np.testing.assert_array_equal(got, torch_anchors(twin, shape, levels))
    x = {"x": trtnet.Shapes((1, 3, 32, 96), (2, 3, 64, 96), (2, 3, 128, 96))}
    trtnet.build(net, x)


def test_static_anchors_are_constants():
    net = trtnet.Network("rtx")
    x = net.input("x", (1, 3, 64, 96))
    detection.AnchorGenerator(*FCOS)(x, pyramid(x, 3))
    kinds = [layer.type.name for layer in (net.definition.get_layer(i)
             for i in range(net.definition.num_layers))]  # fmt: skip
    assert "FILL" not in kinds


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: detection.AnchorGenerator(((8,),), ((1.0,), (2.0,))), "sizes and aspect ratios"),
        (lambda: detection.DefaultBoxGenerator([[2], [2]], steps=[8]), "steps of default boxes"),
        (lambda: detection.DefaultBoxGenerator([[2]], scales=[0.1]), "scales of default boxes"),
    ],
)
def test_arguments_that_do_not_fit(make, text):
    with pytest.raises(UsageError, match=text):
        make()


def test_another_number_of_features(net):
    x = net.input("x", (1, 3, 64, 64))
    for generator in (detection.AnchorGenerator(*FCOS), detection.DefaultBoxGenerator([[2]])):
        with pytest.raises(UsageError, match="another number of feature maps"):
            generator(x, pyramid(x, 2))
