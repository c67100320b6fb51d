"""RefineDet: the network against its PyTorch twin, whose suppression is torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.ops import box_iou

import trtnet
from trtnet import reference, zoo

NAME = "refinedet320_vgg16"
Size = tuple[int, int]
Seeded = dict[Size, dict[str, torch.Tensor]]
SIZES: list[Size] = [(128, 192), (192, 128)]
COUNT = 20  # boxes of an image
KEPT = {"score_thresh": 0.2, "detections_per_img": COUNT, "objectness_thresh": 0.3}
GAP = 1e-3  # between the scores of the boxes of an image


def images(count: int, height: int, width: int) -> np.ndarray:
    """Noise, and for every second image coarse squares."""
    rng = np.random.default_rng(height)
    values = rng.standard_normal((count, 3, height, width))
    squares = rng.uniform(-2, 2, (count, 3, height // 16, width // 16))
    values[1::2] = squares.repeat(16, 2).repeat(16, 3)[1::2]
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def seeded() -> Seeded:
    """For each size weights that find at least 20 boxes in every image, the scores GAP apart."""
    torch.manual_seed(0)
    twin = zoo.get_entry(NAME).torch_model(**{**KEPT, "detections_per_img": COUNT + 1})
    for layer in twin.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return {size: _with_seeded_heads(twin, torch.from_numpy(images(2, *size))) for size in SIZES}


def _with_seeded_heads(twin: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        maps = twin.backbone(x)
        fine = twin.connected(maps)
        for seed in range(200):
            _seed_heads(twin, seed)
            found = twin.found(x, None, twin.arm(maps), twin.odm(fine))
            gaps = -found["det_scores"].diff(dim=1)
            full = (found["num_dets"] == COUNT + 1).all() and (
                _areas(found["det_boxes"]) > 100
            ).all()
            if full and (gaps >= GAP).all():
                return {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    raise AssertionError("no seed gives scores that are far enough apart")


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def _seed_heads(twin: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, spread in (("arm.loc", 0.5), ("arm.conf", 3.0), ("odm.loc", 1.0), ("odm.conf", 3.0)):
        for layer in twin.get_submodule(name):
            weight = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.data = weight * spread / (3 * weight.shape[1] ** 0.5)
            layer.bias.data = torch.randn(layer.bias.shape, generator=generator) * 0.1
            if name == "arm.conf":
                layer.bias.data[1::2] -= 4  # most anchors are background


def define(
    weights: Mapping[str, torch.Tensor], shape: tuple[Any, ...], precision: str = "fp32",
    **arguments: Any,
) -> trtnet.Network:  # fmt: skip
    model = zoo.get_model(NAME, **{**KEPT, **arguments})
    model.load_state_dict({name: tensor.numpy() for name, tensor in weights.items()})
    network = trtnet.Network("rtx", precision)
    inputs = [network.input("input", shape)]
    if arguments.get("image_sizes"):
        inputs.append(network.input("image_sizes", (shape[0], 2), "int32"))
    for name, tensor in model(*inputs).items():
        network.output(name, tensor)
    return network


def twin_of(weights: Mapping[str, torch.Tensor], **arguments: Any) -> torch.nn.Module:
    twin = zoo.get_entry(NAME).torch_model(**{**KEPT, **arguments})
    twin.load_state_dict(weights)
    return twin


def run_twin(twin: torch.nn.Module, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = twin(*(torch.from_numpy(array) for array in inputs))
    return {name: tensor.numpy() for name, tensor in found.items()}


def assert_same_boxes(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(found["num_dets"], wanted["num_dets"])
    np.testing.assert_array_equal(found["det_classes"], wanted["det_classes"])
    np.testing.assert_allclose(found["det_scores"], wanted["det_scores"], atol=1e-4)
    for count, ours, theirs in zip(
        found["num_dets"][:, 0], found["det_boxes"], wanted["det_boxes"], strict=True
    ):
        overlap = box_iou(torch.from_numpy(ours[:count]), torch.from_numpy(theirs[:count]))
        assert overlap.diagonal().min() >= 0.999


def test_the_parameters_are_those_of_the_twin() -> None:
    model = zoo.get_model(NAME)
    expected = zoo.get_entry(NAME).torch_model().state_dict()
    shapes = {name: tuple(slot.shape) for name, slot in model.named_parameters()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    features = 14_714_688  # VGG-16 without its classifier
    base = (
        512 * 2 + (512 * 9 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 256 + (256 * 9 + 1) * 512
    )
    arm = sum((c * 9 + 1) * 3 * (4 + 2) for c in (512, 512, 1024, 512))
    tcb = sum((c * 9 + 1) * 256 for c in (512, 512, 1024, 512)) + 8 * (256 * 9 + 1) * 256
    tcb += 3 * (256 * 16 + 1) * 256
    odm = 4 * (256 * 9 + 1) * 3 * (4 + 21)
    total = sum(p.numel() for p in model.parameters())
    assert total == features + base + arm + tcb + odm


def test_the_weights_of_vgg16_fit() -> None:
    shapes = {name: tuple(slot.shape) for name, slot in zoo.get_model(NAME).named_parameters()}
    for name, tensor in torchvision.models.vgg16().features.state_dict().items():
        assert shapes[f"backbone.features.{name}"] == tuple(tensor.shape)


@pytest.mark.parametrize("size", SIZES)
def test_end_to_end_the_boxes_are_those_of_the_twin(size: Size, seeded: Seeded) -> None:
    x = images(2, *size)
    wanted = run_twin(twin_of(seeded[size]), x)
    assert (wanted["num_dets"] >= 20).all()
    network = define(seeded[size], (2, 3, *size))
    assert_same_boxes(reference.run(network.definition, {"input": x}), wanted)
    exact = reference.run(network.definition, {"input": x}, float64=True)
    with torch.no_grad():
        doubles = twin_of(seeded[size]).double()(torch.from_numpy(x).double())
    assert_same_boxes(exact, {name: tensor.numpy() for name, tensor in doubles.items()})


def test_the_paper_s_thresholds(seeded: Seeded) -> None:
    """All 200 boxes of an image, as a set: some of their scores are nearly equal."""
    size = SIZES[0]
    x = images(1, *size)
    arguments = {"score_thresh": 0.01, "objectness_thresh": 0.01, "detections_per_img": 200}
    wanted = run_twin(twin_of(seeded[size], **arguments), x)
    found = reference.run(define(seeded[size], (1, 3, *size), **arguments).definition, {"input": x})
    count = wanted["num_dets"].item()
    assert found["num_dets"].item() == count == 200
    overlap = box_iou(*(torch.from_numpy(part["det_boxes"][0]) for part in (found, wanted)))
    same_class = found["det_classes"][0][:, None] == wanted["det_classes"][0]
    partners = (overlap >= 0.999).numpy() & same_class
    assert partners.any(1).mean() >= 0.99
    assert partners.any(0).mean() >= 0.99


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_module_verifies(precision: str, seeded: Seeded) -> None:
    size = SIZES[0]
    network = define(seeded[size], (2, 3, *size), precision, output_format="raw")
    twin = twin_of(seeded[size], output_format="raw")
    inputs = {"input": images(2, *size)}
    if precision == "fp32":
        assert trtnet.verify(network, twin, inputs, float64=True).passed
    found = trtnet.verify(network, twin, inputs)
    assert found.passed, found
    modules = {row.module for row in found.rows}
    assert modules >= {"backbone.norm5_3", "backbone.conv6_2", "arm.conf.3", "tcb.0", "odm.loc.0",
                       "tcb.2.deconv"}  # fmt: skip
    assert [row.module for row in found.outputs] == ["boxes", "scores"]


def test_anchors_without_an_object_have_no_class(seeded: Seeded) -> None:
    size = SIZES[1]
    x = images(2, *size)
    twin = twin_of(seeded[size], output_format="raw")
    network = define(seeded[size], (2, 3, *size), output_format="raw")
    found = reference.run(network.definition, {"input": x})
    with torch.no_grad():
        objectness = twin.arm(twin.backbone(torch.from_numpy(x)))[1].softmax(2)[..., 1].numpy()
    dropped = objectness < KEPT["objectness_thresh"]
    assert 0.1 < dropped.mean() < 1
    assert (found["scores"][dropped] == 0).all()
    assert (found["scores"][~dropped][:, 1:] > 0).all()
    assert (found["scores"][..., 0] == 0).all()
    assert found["boxes"].shape == (2, sum(3 * 192 * 128 // s**2 for s in (8, 16, 32, 64)), 4)


def test_boxes_end_where_their_image_ends(seeded: Seeded) -> None:
    size = SIZES[0]
    x, sizes = images(2, *size), np.array([[100, 150], [64, 180]], np.int32)
    network = define(seeded[size], (2, 3, *size), image_sizes=True)
    found = reference.run(network.definition, {"input": x, "image_sizes": sizes})
    wanted = run_twin(twin_of(seeded[size], image_sizes=True), x, sizes)
    np.testing.assert_array_equal(found["num_dets"], wanted["num_dets"])
    np.testing.assert_allclose(found["det_boxes"], wanted["det_boxes"], atol=1e-2)
    assert (found["det_boxes"] <= sizes[:, None, [1, 0, 1, 0]]).all()
    assert (found["det_boxes"][..., 3] == sizes[:, None, 0]).any()


def test_rows_of_six(seeded: Seeded) -> None:
    size = SIZES[1]
    x = images(2, *size)
    arguments = {"output_format": "rows6", "detections_per_img": 40, "score_thresh": 0.6}
    (found,) = reference.run(
        define(seeded[size], (2, 3, *size), **arguments).definition, {"input": x}
    ).values()
    (wanted,) = run_twin(twin_of(seeded[size], **arguments), x).values()
    assert found.shape == wanted.shape == (2, 40, 6)
    assert (wanted[..., 5] == -1).any()
    np.testing.assert_allclose(found, wanted, atol=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_builds(precision: str, seeded: Seeded) -> None:
    network = define(seeded[SIZES[0]], ("N", 3, 320, 320), precision)
    sizes = trtnet.Shapes(min=(1, 3, 320, 320), opt=(2, 3, 320, 320), max=(4, 3, 320, 320))
    plan = trtnet.build(network, shapes={"input": sizes})
    assert len(plan.engine) > 2 * 30_000_000


def test_a_size_that_features_cannot_double_is_refused(seeded: Seeded) -> None:
    with pytest.raises(trtnet.ShapeError, match="multiples of 64"):
        define(seeded[SIZES[0]], (1, 3, 300, 320))


def test_another_format_is_refused() -> None:
    with pytest.raises(trtnet.UsageError, match="no such output format"):
        zoo.get_model(NAME, output_format="rows7")
