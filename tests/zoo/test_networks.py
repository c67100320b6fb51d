"""Models inside larger networks, with other class counts, and with a dynamic batch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import reference, zoo

CLASSES = 7
TOLERANCE = 1e-5  # of float64 against float64, BatchNorm folded

# One model of each family, on the smallest images it takes.
FAMILIES = {
    "densenet121": ((3, 32, 32), {}),
    "lenet5": ((1, 32, 32), {}),
    "mobilenet_v2": ((3, 32, 32), {}),
    "resnet18": ((3, 32, 32), {}),
    "resnet20_digits": ((1, 32, 32), {}),
    "vit_b_16": ((3, 32, 32), {"image_size": 32}),
}


def _pair(
    zoo_checks: ModuleType, name: str, **model_args: Any
) -> tuple[torch.nn.Module, trtnet.Module]:
    """The PyTorch model and ours, with equal weights and CLASSES outputs."""
    shape, family_args = FAMILIES[name]
    model_args = {"num_classes": CLASSES, **family_args, **model_args}
    return zoo_checks.equal_pair(zoo.get_entry(name), (1, *shape), **model_args)


def _images(name: str, batch: int, seed: int = 0) -> np.ndarray:
    shape, _ = FAMILIES[name]
    return np.random.default_rng(seed).standard_normal((batch, *shape)).astype(np.float32)


def _assert_equal(found: np.ndarray, model: torch.nn.Module, images: np.ndarray) -> None:
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(images).double()).numpy()
    assert found.shape == expected.shape == (len(images), CLASSES)
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_dynamic_batch_and_other_classes(name: str, zoo_checks: ModuleType) -> None:
    theirs, ours = _pair(zoo_checks, name)
    network = zoo_checks.define(ours, ("N", *FAMILIES[name][0]), backend="rtx")
    for batch in (1, 3):
        images = _images(name, batch)
        found = reference.run(network.definition, {"input": images}, float64=True)
        _assert_equal(found["logits"], theirs, images)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_engine_with_a_dynamic_batch_builds(name: str, zoo_checks: ModuleType) -> None:
    _, ours = _pair(zoo_checks, name)
    shape = FAMILIES[name][0]
    network = zoo_checks.define(ours, ("N", *shape), backend="rtx", precision="fp16")
    profile = trtnet.Shapes(min=(1, *shape), opt=(2, *shape), max=(4, *shape))
    plan = trtnet.build(network, shapes={"input": profile})
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    assert len(plan.engine) > 2 * parameters


def test_one_model_called_twice(zoo_checks: ModuleType) -> None:
    theirs, ours = _pair(zoo_checks, "resnet18")
    network = trtnet.Network("rtx")
    inputs = {name: _images("resnet18", 1, seed) for seed, name in enumerate(("left", "right"))}
    for name, images in inputs.items():
        network.output(f"{name}_logits", ours(network.input(name, images.shape)))
    found = reference.run(network.definition, inputs, float64=True)
    for name, images in inputs.items():
        _assert_equal(found[f"{name}_logits"], theirs, images)
    assert {"layer1.0.bn1", "layer1.0.bn1#1"} <= network.module_outputs.keys()


def test_two_models_in_one_network(zoo_checks: ModuleType) -> None:
    pairs = {name: _pair(zoo_checks, name) for name in ("resnet18", "mobilenet_v2")}
    network = trtnet.Network("rtx")
    x = network.input("input", (2, 3, 32, 32))
    for name, (_, ours) in pairs.items():
        with network.scope(name):
            network.output(f"{name}_logits", ours(x))
    images = _images("resnet18", 2)
    found = reference.run(network.definition, {"input": images}, float64=True)
    for name, (theirs, _) in pairs.items():
        _assert_equal(found[f"{name}_logits"], theirs, images)
    assert {"resnet18.fc", "mobilenet_v2.classifier.1"} <= network.module_outputs.keys()


def test_vit_refuses_sizes_that_do_not_fit(zoo_checks: ModuleType) -> None:
    with pytest.raises(trtnet.ShapeError, match="image_size does not fit") as caught:
        zoo.get_model("vit_b_16", image_size=100)
    assert caught.value.got == 100
    _, ours = _pair(zoo_checks, "vit_b_16")
    with pytest.raises(trtnet.ShapeError, match="position embedding") as caught:
        zoo_checks.define(ours, (1, 3, 48, 48), backend="rtx")
    assert caught.value.expected == "(N, 3, 32, 32)"
