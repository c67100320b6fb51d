"""U-Net: the network against PyTorch on images of any size, and the weights it ships with."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

import trtnet
from trtnet import reference, weights, zoo
from trtnet.zoo.segmentation.heads import class_map

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "docs" / "images" / "shapes.png"
CLASS_IMAGE = ROOT / "tests" / "data" / "segmentation" / "shapes_classes.png"
SIZES = [(32, 48), (37, 51), (16, 1), (1, 7), (95, 33)]
PICTURES = 24  # of the held-out ones


@pytest.fixture(scope="module")
def shipped() -> weights.Weights:
    (file,) = zoo.get_entry("unet").embedded.values()
    return weights.load(Path(weights.__file__).parent / file)


@pytest.fixture(scope="module")
def torch_model(shipped: weights.Weights) -> torch.nn.Module:
    model = zoo.get_entry("unet").torch_model()
    model.load_state_dict({name: torch.tensor(array) for name, array in shipped.items()})
    return model


@pytest.fixture
def model(shipped: weights.Weights) -> trtnet.Module:
    return with_weights(shipped)


def with_weights(shipped: weights.Weights, **arguments: bool) -> trtnet.Module:
    model = zoo.get_model("unet", **arguments)
    model.load_state_dict(shipped)
    return model


def define(
    model: trtnet.Module, size: tuple[int | str, int | str] = ("H", "W"), precision: str = "fp32"
) -> trtnet.Network:
    network = trtnet.Network("rtx", precision)
    for name, tensor in model(network.input("input", ("N", 3, *size))).items():
        network.output(name, tensor)
    return network


def images(count: int, height: int, width: int) -> np.ndarray:
    values = np.random.default_rng(6).standard_normal((count, 3, height, width))
    return values.astype(np.float32)


def test_the_parameters_are_those_of_pytorch(model: trtnet.Module) -> None:
    expected = zoo.get_entry("unet").torch_model().state_dict()
    shapes = {name: slot.shape for name, slot in model.state_dict().items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    widths = [3, 16, 32, 64, 96, 96]
    kernels = sum(9 * (a + b) * b for a, b in pairwise(widths))
    kernels += sum((4 * a + 27 * b) * b for a, b in zip(widths[2:], widths[1:-1], strict=True))
    others = 4 * (sum(widths[1:]) + sum(widths[1:-1])) + sum(widths[1:-1]) + 17 * 5
    assert sum(p.numel() for p in model.parameters()) == kernels + others == 843_989


def test_any_size_in_one_network(model: trtnet.Module, torch_model: torch.nn.Module) -> None:
    network = define(model)
    for count, (height, width) in enumerate(SIZES, 1):
        x = images(count, height, width)
        found = reference.run(network.definition, {"input": x}, float64=True)["out"]
        with torch.no_grad():
            expected = torch_model.double()(torch.from_numpy(x).double())["out"].numpy()
        assert found.shape == expected.shape == (count, 5, height, width)
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)
    torch_model.float()


@pytest.mark.parametrize("size", [("H", "W"), (75, 97), (64, 96)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_module_verifies(
    size: tuple[int | str, int | str],
    precision: str,
    model: trtnet.Module,
    torch_model: torch.nn.Module,
) -> None:
    height, width = (default if type(axis) is str else axis for axis, default in
                     zip(size, (70, 61), strict=True))  # fmt: skip
    network = define(model, size, precision)
    inputs = {"input": images(1, height, width)}
    if precision == "fp32":
        assert trtnet.verify(network, torch_model, inputs, float64=True).passed
    found = trtnet.verify(network, torch_model, inputs)
    assert found.passed
    assert {row.module for row in found.rows} >= {"encoder.4", "up.0", "decoder.3", "classifier"}


def test_an_engine_for_any_size_builds(shipped: weights.Weights) -> None:
    network = define(with_weights(shipped, argmax=True), precision="fp16")
    sizes = trtnet.Shapes(min=(1, 3, 1, 1), opt=(1, 3, 301, 403), max=(4, 3, 1080, 1920))
    plan = trtnet.build(network, shapes={"input": sizes})
    assert len(plan.engine) > 2 * 843_989


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_classes_are_those_of_the_largest_logits(
    precision: str, model: trtnet.Module, shipped: weights.Weights
) -> None:
    inputs = {"input": images(2, 37, 50)}
    (logits,) = reference.run(define(model, precision=precision).definition, inputs).values()
    network = define(with_weights(shipped, argmax=True), precision=precision)
    found = reference.run(network.definition, inputs)
    assert list(found) == ["classes"]
    assert found["classes"].dtype == np.int32
    np.testing.assert_array_equal(found["classes"], logits.argmax(1))
    assert len(np.unique(found["classes"])) > 1


def test_classes_are_those_of_pytorch(
    shipped: weights.Weights, torch_model: torch.nn.Module
) -> None:
    network = define(with_weights(shipped, argmax=True))
    twin = zoo.get_entry("unet").torch_model(argmax=True)
    twin.load_state_dict(torch_model.state_dict())
    x = images(1, 45, 83)
    found = reference.run(network.definition, {"input": x}, float64=True)["classes"]
    with torch.no_grad():
        expected = twin.double()(torch.from_numpy(x).double())["classes"]
    assert expected.dtype == torch.int32
    np.testing.assert_array_equal(found, expected.numpy())


def test_of_equal_logits_the_first_counts(net: trtnet.Network) -> None:
    logits = np.random.default_rng(0).integers(0, 3, (2, 5, 6, 7)).astype(np.float32)
    net.output("classes", class_map(net.input("logits", ("N", 5, "H", "W"))))
    found = reference.run(net.definition, {"logits": logits})["classes"]
    np.testing.assert_array_equal(found, logits.argmax(1))


def test_intersection_over_union(train_unet: ModuleType) -> None:
    rng = np.random.default_rng(1)
    truth, found = rng.integers(0, 5, (2, 60, 40))

    def model(image: torch.Tensor) -> dict[str, torch.Tensor]:
        assert image.shape == (1, 3, 60, 40)
        classes = torch.nn.functional.one_hot(torch.from_numpy(found), 5)
        return {"out": classes.permute(2, 0, 1)[None]}

    confusion = train_unet.confusion(model, [(torch.zeros(3, 60, 40), torch.from_numpy(truth))])
    np.testing.assert_allclose(
        train_unet.intersection_over_union(confusion),
        jaccard_score(truth.ravel(), found.ravel(), average=None),
    )


def test_training_is_reproducible(train_unet: ModuleType) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    states = [train_unet.train(12, 1, 32, seed).state_dict() for seed in (0, 0, 1)]
    torch.set_num_threads(before)
    first, second, other = states
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_pictures_are_not_among_the_held_out(train_unet: ModuleType) -> None:
    training = train_unet.TrainingPictures(0, 8, 96)
    seen = [training[index][0] for index in range(len(training))]
    seen += [train_unet.TrainingPictures(1, 1, 96)[0][0]]  # of another seed
    for image, _ in train_unet.held_out(8):
        assert not any(torch.equal(image, other) for other in seen)


def test_the_shipped_file_says_what_it_is(shipped: weights.Weights) -> None:
    assert shipped.path is not None
    assert shipped.path.stat().st_size < 4e6
    assert shipped.metadata["architecture"] == "unet"
    assert shipped.metadata["weights"] in zoo.get_entry("unet").embedded
    assert shipped.metadata["sha256"] == weights.data_sha256(shipped)
    assert int(shipped.metadata["parameters"]) == weights.parameter_count(shipped) == 843_989
    assert shipped.class_names == ["background", "circle", "rectangle", "triangle", "star"]
    assert shipped.preprocessing == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert all(np.isfinite(array).all() for array in shipped.values())


def test_the_shipped_quality_is_as_stated(
    shipped: weights.Weights, torch_model: torch.nn.Module, train_unet: ModuleType
) -> None:
    confusion = train_unet.confusion(torch_model, train_unet.held_out(PICTURES))
    found = train_unet.intersection_over_union(confusion)
    assert found.mean() >= 0.90
    assert float(shipped.metadata["mean_iou"]) == pytest.approx(found.mean(), abs=0.02)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_sample_picture(precision: str, shipped: weights.Weights) -> None:
    with Image.open(IMAGE) as picture, Image.open(CLASS_IMAGE) as truth:
        assert (picture.mode, truth.mode) == ("RGB", "P")
        values, expected = np.asarray(picture), np.asarray(truth)
    assert values.shape[:2] == expected.shape == (301, 403)
    stated = json.loads(shipped.metadata["preprocessing"])
    x = (values / 255 - stated["mean"]) / stated["std"]
    network = define(with_weights(shipped, argmax=True), precision=precision)
    inputs = {"input": x.transpose(2, 0, 1)[None].astype(np.float32)}
    found = reference.run(network.definition, inputs)["classes"][0]
    assert jaccard_score(expected.ravel(), found.ravel(), average="macro") >= 0.90
