"""torchvision's two-stage detectors as whole models. Their stages are in test_rcnn_parts.py and
test_roi_heads.py, larger models and pictures in ``tools/verify_detectors.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

import trtnet
from trtnet import zoo
from trtnet.errors import UsageError
from trtnet.weights.random_init import random_module
from trtnet.weights.torch_import import without_memory

NAMES = sorted(name for name in detection.__dict__ if "rcnn_" in name and name.endswith(
    ("fpn", "v2")) and not name.startswith("_"))  # fmt: skip
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
FEW = {
    "num_classes": 5,
    "rpn_pre_nms_top_n_test": 150,
    "rpn_post_nms_top_n_test": 80,
    "box_detections_per_img": 40,
}
SIZES = {(96, 128): [[96, 128], [70, 101]], (128, 96): [[128, 96], [111, 80]]}
Arrays = dict[str, np.ndarray]


class Prepared(torch.nn.Module):
    """In place of torchvision's transform, which prepares images: they are prepared."""

    def __init__(self, sizes: np.ndarray) -> None:
        super().__init__()
        self.sizes = [tuple(size) for size in sizes.tolist()]

    def forward(self, images: Any, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(torch.stack(images), self.sizes), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        return result


def inputs(size: tuple[int, int]) -> Arrays:
    """An image of shapes and a smaller one of noise, padded."""
    rng = np.random.default_rng(5)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    drawn = np.stack([x / width, y / height, (x + y) / (height + width)]) * 2 - 1
    for _ in range(20):
        (cx, cy), (a, b) = rng.random(2) * [width, height], np.exp(rng.uniform(1, 3.5, 2))
        inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
        drawn[:, inside] = rng.uniform(-2, 2, (3, 1))
    sizes = np.array(SIZES[size], np.int32)
    noise = rng.standard_normal((3, height, width))
    noise[:, sizes[1, 0] :] = 0
    noise[:, :, sizes[1, 1] :] = 0
    return {"input": np.stack([drawn, noise]).astype(np.float32), "image_sizes": sizes}


@pytest.fixture(scope="module")
def seeded(detector_cases: Any) -> Any:
    """torchvision's model with heads that find something."""
    arguments = {**FEW, "output_format": "raw"}
    make = zoo.get_entry(SMALL).torch_model
    twin = random_module(make, 0, input_shape=(3, 96, 128), **arguments)
    images = torch.from_numpy(inputs((96, 128))["input"])
    detector_cases.CASES[SMALL].seed_heads(twin, images)
    theirs = detection.__dict__[SMALL](weights=None, weights_backbone=None, **FEW).eval()
    theirs.load_state_dict(twin.state_dict())
    return theirs


def define(state: Any, shape: Any = ("B", 3, "H", "W"), **arguments: Any) -> trtnet.Network:
    model = zoo.get_model(SMALL, **FEW, image_sizes=True, **arguments)
    model.load_state_dict(state)
    net = trtnet.Network("rtx")
    sizes = net.input("image_sizes", (shape[0], 2), "int32")
    for name, tensor in model(net.input("input", shape), sizes).items():
        net.output(name, tensor)
    return net


def run(net: trtnet.Network, arrays: Arrays) -> Arrays:
    return {name: np.asarray(x) for name, x in trtnet.reference.run(net, arrays).items()}


def wanted(theirs: Any, arrays: Arrays) -> list[Arrays]:
    theirs.transform = Prepared(arrays["image_sizes"])
    with torch.no_grad():
        found = theirs(list(torch.from_numpy(arrays["input"])))
    return [{name: x.numpy() for name, x in image.items()} for image in found]


def check(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, theirs: Arrays) -> None:
    """The same boxes, one to one."""
    assert len(scores) == len(theirs["scores"]) >= 20
    assert (theirs["scores"][:-1] - theirs["scores"][1:] >= 1e-3).sum() >= 20
    both = [torch.from_numpy(np.array(x)).double() for x in (boxes, theirs["boxes"])]
    overlap = box_iou(*both).numpy() * (labels[:, None] == theirs["labels"])
    partner = overlap.argmax(1)
    assert len(np.unique(partner)) == len(scores)
    large = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)  # of a sliver, rounding is a large part
    assert overlap.max(1)[large].min() >= 0.999
    assert np.abs(boxes - theirs["boxes"][partner]).max() <= 0.01
    assert np.abs(scores - theirs["scores"][partner]).max() <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_parameters_are_torchvisions(name: str) -> None:
    with without_memory():
        theirs = detection.__dict__[name](weights=None, weights_backbone=None)
    ours = zoo.get_model(name)
    entries = [*ours.named_parameters(), *ours.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(entry.shape) for key, entry in entries} == shapes
    count = sum(parameter.numel() for parameter in theirs.parameters())
    assert sum(parameter.numel() for parameter in ours.parameters()) == count
    paths = {path for path, _ in theirs.named_modules()} - {"transform"}
    assert {path for path, _ in ours.named_modules()} == paths
    eps = [m.eps for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    mine = [m.eps for m in ours.modules() if isinstance(m, trtnet.nn.BatchNorm2d)]
    assert mine == eps


@pytest.mark.parametrize("output_format", ["efficientnms", "rows6"])
def test_the_same_objects_at_two_sizes_in_batches_of_different_images(
    seeded: Any, output_format: str
) -> None:
    net = define(seeded.state_dict(), output_format=output_format)
    for size in SIZES:
        arrays = inputs(size)
        got = run(net, arrays)
        for image, theirs in enumerate(wanted(seeded, arrays)):
            if output_format == "rows6":
                rows = got["detections"][image]
                rows = rows[rows[:, 5] >= 0]
                check(rows[:, :4], rows[:, 4], rows[:, 5], theirs)
            else:
                count = got["num_dets"][image, 0]
                parts = (got[f"det_{x}"][image, :count] for x in ("boxes", "scores", "classes"))
                check(*parts, theirs)


def test_a_limited_number_of_candidates_that_is_enough(seeded: Any) -> None:
    arrays = inputs((96, 128))
    got = run(define(seeded.state_dict(), box_topk_candidates=320), arrays)
    for image, theirs in enumerate(wanted(seeded, arrays)):
        parts = (got[f"det_{x}"][image] for x in ("boxes", "scores", "classes"))
        check(*parts, theirs)


def test_raw_outputs_are_those_before_the_threshold(seeded: Any) -> None:
    arrays = inputs((96, 128))
    got = run(define(seeded.state_dict(), (2, 3, 96, 128), output_format="raw"), arrays)
    twin = zoo.get_entry(SMALL).torch_model(**FEW, image_sizes=True, output_format="raw")
    twin.load_state_dict(seeded.state_dict())
    with torch.no_grad():
        expected = twin(*(torch.from_numpy(x) for x in arrays.values()))
    assert got["boxes"].shape == (2, 80, 5, 4)
    assert not got["scores"][..., 0].any()
    for image in range(2):
        scores = np.abs(got["scores"][image][:, None] - expected["scores"][image].numpy())
        boxes = np.abs(got["boxes"][image][:, None] - expected["boxes"][image].numpy())
        fits = (scores.max(-1) <= 1e-4) & (boxes.max((-1, -2)) <= 0.02)
        assert fits.any(0).all()
        assert fits.any(1).all()
        assert sorted(fits.sum(0)) == sorted(fits.sum(1))  # levels may propose the same box


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="rpn_pre_nms_top_n_test is a number of boxes"):
        zoo.get_model(SMALL, rpn_pre_nms_top_n_test=5000)
    with pytest.raises(UsageError, match="no such output format"):
        zoo.get_model(SMALL, output_format="rows7")
    net = trtnet.Network("rtx")
    with pytest.raises(UsageError, match="image_sizes=False"):
        zoo.get_model(SMALL, image_sizes=True)(net.input("input", (1, 3, 64, 64)))
