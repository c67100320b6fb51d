"""YOLOX: published names and sizes, and the network against its PyTorch twin, whose suppression is
torchvision's, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_area, box_iou, nms

import trtnet
from trtnet import reference, zoo
from trtnet.imaging import prepare
from trtnet.zoo.detection import torch_yolox

MILLIONS = {"yolox_nano": 0.91, "yolox_tiny": 5.06, "yolox_s": 8.97, "yolox_m": 25.33,
            "yolox_l": 54.21, "yolox_x": 99.07}  # fmt: skip
NANO = {  # keys of the published weights of YOLOX-Nano
    "backbone.backbone.stem.conv.conv.weight": (16, 12, 3, 3),
    "backbone.backbone.stem.conv.bn.running_mean": (16,),
    "backbone.backbone.dark2.0.dconv.conv.weight": (16, 1, 3, 3),
    "backbone.backbone.dark2.0.pconv.conv.weight": (32, 16, 1, 1),
    "backbone.backbone.dark2.1.m.0.conv2.dconv.bn.running_var": (16,),
    "backbone.backbone.dark3.1.m.2.conv1.conv.weight": (32, 32, 1, 1),
    "backbone.backbone.dark4.1.conv3.conv.weight": (128, 128, 1, 1),
    "backbone.backbone.dark5.1.conv2.conv.weight": (256, 512, 1, 1),
    "backbone.backbone.dark5.2.m.0.conv2.pconv.conv.weight": (128, 128, 1, 1),
    "backbone.lateral_conv0.conv.weight": (128, 256, 1, 1),
    "backbone.C3_p4.conv1.conv.weight": (64, 256, 1, 1),
    "backbone.reduce_conv1.bn.bias": (64,),
    "backbone.C3_p3.m.0.conv2.pconv.bn.weight": (32,),
    "backbone.bu_conv2.dconv.conv.weight": (64, 1, 3, 3),
    "backbone.C3_n3.conv3.bn.num_batches_tracked": (),
    "backbone.bu_conv1.pconv.conv.weight": (128, 128, 1, 1),
    "backbone.C3_n4.conv2.conv.weight": (128, 256, 1, 1),
    "head.stems.2.conv.weight": (64, 256, 1, 1),
    "head.cls_convs.0.1.pconv.conv.weight": (64, 64, 1, 1),
    "head.reg_convs.1.0.dconv.bn.bias": (64,),
    "head.cls_preds.2.weight": (80, 64, 1, 1),
    "head.reg_preds.0.bias": (4,),
    "head.obj_preds.1.weight": (1, 64, 1, 1),
}
SMALL = {"num_classes": 6, "depth": 0.33, "width": 0.125}
COUNT = 20  # boxes of an image
KEPT = {"score_thresh": 0.02, "nms_thresh": 0.5, "detections_per_img": COUNT}
SIZES = [(96, 128), (160, 96)]
GAP = 1e-3  # between the scores of the boxes of an image
Seeded = tuple[tuple[int, int], dict[str, torch.Tensor]]


def images(count: int, height: int, width: int) -> np.ndarray:
    """Noise, and for every second image coarse squares."""
    rng = np.random.default_rng(height)
    values = rng.standard_normal((count, 3, height, width))
    squares = rng.uniform(-2, 2, (count, 3, height // 16, width // 16))
    values[1::2] = squares.repeat(16, 2).repeat(16, 3)[1::2]
    return values.astype(np.float32)


def seeded_model(depthwise: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    twin = zoo.get_entry("yolox_s").torch_model(**SMALL, depthwise=depthwise, output_format="raw")
    for layer in twin.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, limits in ((layer.weight, (0.7, 1.3)), (layer.bias, (-0.2, 0.2)),
                                   (layer.running_mean, (-0.1, 0.1)),
                                   (layer.running_var, (0.5, 1.5))):  # fmt: skip
                torch.nn.init.uniform_(tensor, *limits)
    return twin


@pytest.fixture(scope="module", params=SIZES, ids=str)
def seeded(request: pytest.FixtureRequest) -> Seeded:
    """A size, and weights that find more than COUNT boxes in its images, the scores GAP apart."""
    twin = seeded_model()
    more = zoo.get_entry("yolox_s").torch_model(
        **SMALL, **{**KEPT, "detections_per_img": COUNT + 1}
    )
    for seed in range(400):
        _seed_heads(twin, seed)
        more.load_state_dict(twin.state_dict())
        if _far_apart(more, request.param):
            return request.param, twin.state_dict()
    raise AssertionError("no seed gives scores that are far enough apart")


def _seed_heads(twin: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, spread, bias in (("cls_preds", 0.2, 0.0), ("obj_preds", 0.2, -3.0),
                               ("reg_preds", 0.02, 0.8)):  # fmt: skip
        for layer in getattr(twin.head, name):
            weight = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data = weight * spread / weight.shape[1] ** 0.5
            layer.bias.data = torch.randn(layer.bias.shape, generator=generator) * 0.1 + bias


def _far_apart(twin: torch.nn.Module, size: tuple[int, int]) -> bool:
    with torch.no_grad():
        found = twin(torch.from_numpy(images(2, *size)))
    gaps = -found["det_scores"].diff(dim=1)
    return bool((found["num_dets"] == COUNT + 1).all() and (gaps >= GAP).all())


def define(
    state: Mapping[str, torch.Tensor], shape: tuple[Any, ...], precision: str = "fp32",
    **arguments: Any,
) -> trtnet.Network:  # fmt: skip
    model = zoo.get_model("yolox_s", **{**SMALL, **KEPT, **arguments})
    model.load_state_dict({name: tensor.numpy() for name, tensor in state.items()})
    network = trtnet.Network("rtx", precision)
    inputs = [network.input("input", shape)]
    if arguments.get("image_sizes"):
        inputs.append(network.input("image_sizes", (shape[0], 2), "int32"))
    for name, tensor in model(*inputs).items():
        network.output(name, tensor)
    return network


def run_twin(
    state: Mapping[str, torch.Tensor], *inputs: np.ndarray, **arguments: Any
) -> dict[str, np.ndarray]:
    twin = zoo.get_entry("yolox_s").torch_model(**{**SMALL, **KEPT, **arguments})
    twin.load_state_dict(state)
    with torch.no_grad():
        found = twin(*(torch.from_numpy(array) for array in inputs))
    return {name: tensor.numpy() for name, tensor in found.items()}


@pytest.mark.parametrize("name", MILLIONS)
def test_the_published_numbers_of_parameters(name: str) -> None:
    count = sum(parameter.numel() for parameter in zoo.get_model(name).parameters())
    assert round(count / 1e6, 2) == MILLIONS[name]


def test_the_published_names() -> None:
    state = zoo.get_entry("yolox_nano").torch_model().state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes.items() >= NANO.items()
    model = zoo.get_model("yolox_nano")
    model.load_state_dict({name: tensor.numpy() for name, tensor in state.items()}, strict=True)


@pytest.mark.parametrize("size", [("H", "W"), SIZES[0]])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_module_verifies(size: tuple[Any, Any], depthwise: bool, precision: str) -> None:
    twin = seeded_model(depthwise)
    network = define(twin.state_dict(), ("N", 3, *size), precision, depthwise=depthwise,
                     output_format="raw")  # fmt: skip
    inputs = {"input": images(2, *SIZES[0])}
    found = trtnet.verify(network, twin, inputs, float64=precision == "fp32")
    assert found.passed
    assert {row.module for row in found.rows} >= {
        "backbone.backbone.stem", "backbone.backbone.dark5.1", "backbone.C3_n4", "head.cls_preds.0",
        "head.reg_preds.1", "head.obj_preds.2",
    }  # fmt: skip


def test_boxes_are_decoded_as_published(seeded: Seeded) -> None:
    """Written apart from the model: a loop over the cells of each level."""
    size, state = seeded
    network = define(state, (2, 3, *size), output_format="raw")
    x = images(2, *size)
    found = reference.run(network.definition, {"input": x})
    twin = zoo.get_entry("yolox_s").torch_model(**SMALL)
    twin.load_state_dict(state)
    with torch.no_grad():
        given = twin.found(torch.from_numpy(x)).numpy()
    at = 0
    for stride in torch_yolox.STRIDES:
        for row in range(size[0] // stride):
            for column in range(size[1] // stride):
                dx, dy, dw, dh = given[:, at, :4].T
                x, y = (column + dx) * stride, (row + dy) * stride
                width, height = np.exp(dw) * stride, np.exp(dh) * stride
                corners = np.stack(
                    [x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1
                )
                limits = np.array([size[1], size[0]] * 2)
                expected = np.clip(corners, 0, limits)
                np.testing.assert_allclose(found["boxes"][:, at], expected, rtol=1e-4, atol=1e-3)
                at += 1
    assert found["boxes"].shape[1] == at
    logits = given[..., 4:].astype(np.float64)
    probabilities = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(found["scores"], probabilities[..., 1:] * probabilities[..., :1],
                               atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("image_sizes", [False, True])
def test_detections_are_those_of_torchvision(image_sizes: bool, seeded: Seeded) -> None:
    size, state = seeded
    inputs = {"input": images(2, *size)}
    if image_sizes:
        inputs["image_sizes"] = np.array([size, (size[0] - 40, size[1] - 50)], np.int32)
    network = define(state, ("N", 3, "H", "W"), image_sizes=image_sizes)
    found = reference.run(network.definition, inputs)
    expected = run_twin(state, *inputs.values())
    np.testing.assert_array_equal(found["num_dets"], expected["num_dets"])
    assert (found["num_dets"][0] if image_sizes else found["num_dets"] == COUNT).all()
    for image, (count,) in enumerate(found["num_dets"]):
        boxes = [torch.from_numpy(each["det_boxes"][image, :count]) for each in (found, expected)]
        torch.testing.assert_close(*boxes, rtol=1e-4, atol=1e-2)
        inside = box_area(boxes[1]) > 0  # what lies outside of a smaller image has no area
        assert (box_iou(*boxes).diagonal()[inside] >= 0.999).all()
        assert inside.sum() >= (1 if image_sizes and image else COUNT)
        np.testing.assert_allclose(found["det_scores"][image], expected["det_scores"][image],
                                   atol=1e-4)  # fmt: skip
        np.testing.assert_array_equal(found["det_classes"][image, :count],
                                      expected["det_classes"][image, :count])  # fmt: skip
    rows = define(state, ("N", 3, "H", "W"), output_format="rows6", image_sizes=image_sizes)
    rows6 = reference.run(rows.definition, inputs)["detections"]
    expected6 = run_twin(state, *inputs.values(), output_format="rows6")["detections"]
    np.testing.assert_allclose(rows6, expected6, rtol=1e-3, atol=1e-3)


def test_a_box_has_its_best_class_alone(seeded: Seeded) -> None:
    """From the raw outputs, with ``torchvision.ops.nms`` of each class."""
    size, state = seeded
    x = images(2, *size)
    raw = reference.run(define(state, (2, 3, *size), output_format="raw").definition,
                        {"input": x})  # fmt: skip
    found = reference.run(define(state, (2, 3, *size)).definition, {"input": x})
    for image in range(2):
        scores, boxes = (torch.from_numpy(raw[name][image]) for name in ("scores", "boxes"))
        best, kinds = scores.max(1)
        kept = []
        for kind in range(SMALL["num_classes"]):
            own = ((kinds == kind) & (best > KEPT["score_thresh"])).nonzero()[:, 0]
            kept += own[nms(boxes[own], best[own], KEPT["nms_thresh"])].tolist()
        kept = sorted(kept, key=lambda at: -best[at])[:COUNT]
        np.testing.assert_array_equal(found["det_classes"][image], kinds[kept])
        np.testing.assert_allclose(found["det_boxes"][image], boxes[kept], atol=1e-3)


def test_images_are_prepared_as_published() -> None:
    """BGR levels in a letterbox of 114, the image at the top left, doubled without smoothing."""
    image = Image.fromarray(np.full((104, 208, 3), [200, 20, 7], np.uint8))
    preprocessing = zoo.get_entry("yolox_nano").preprocessing
    assert preprocessing is not None
    expected = np.full((1, 3, 416, 416), 114, np.float32)
    expected[0, :, :208] = np.array([7, 20, 200])[:, None, None]
    np.testing.assert_array_equal(prepare(image, preprocessing), expected)


def test_sizes_that_are_no_multiples_of_32_are_refused() -> None:
    model = zoo.get_model("yolox_shapes")
    network = trtnet.Network("rtx")
    with pytest.raises(trtnet.ShapeError, match="multiples of 32"):
        model(network.input("input", (1, 3, 100, 128)))


@pytest.mark.parametrize("shape", [(1, 3, 96, 128), ("N", 3, "H", "W")])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_builds(shape: tuple[Any, ...], precision: str) -> None:
    state = seeded_model().state_dict()
    network = define(state, shape, precision, image_sizes=True)
    sizes = None
    if shape[0] == "N":
        sizes = {
            "input": trtnet.Shapes(min=(1, 3, 32, 32), opt=(1, 3, 96, 128), max=(2, 3, 192, 192)),
            "image_sizes": trtnet.Shapes(min=(1, 2), opt=(1, 2), max=(2, 2)),
        }
    plan = trtnet.build(network, shapes=sizes) if sizes else trtnet.build(network)
    assert len(plan.engine) > 1_000_000
