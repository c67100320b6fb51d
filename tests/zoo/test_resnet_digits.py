"""ResNet-20 for distorted digits, and the weights it ships with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import trtnet
from trtnet import graph, reference, weights, zoo

NAME = "resnet20_digits"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in training; so small a network is no slower for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shipped() -> weights.Weights:
    (file,) = zoo.get_entry(NAME).embedded.values()
    return weights.load(Path(weights.__file__).parent / file)


@pytest.fixture(scope="module")
def torch_model(shipped: weights.Weights) -> torch.nn.Module:
    model = zoo.get_entry(NAME).torch_model()
    model.load_state_dict({name: torch.tensor(array) for name, array in shipped.items()})
    return model


@pytest.fixture(scope="module")
def held_out(train_resnet: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    return train_resnet.distorted_digits("held-out")


def test_it_has_20_layers_and_a_million_parameters() -> None:
    model = zoo.get_model(NAME)
    convolutions = [path for path, m in model.named_modules() if isinstance(m, trtnet.nn.Conv2d)]
    assert len([path for path in convolutions if "downsample" not in path]) + 1 == 20
    # Kernels of the stem, the four stages and their projections; BatchNorms; the classifier.
    stages = [(16, 16, 2), (16, 32, 2), (32, 64, 2), (64, 128, 3)]
    kernels = 9 * 16 + sum(9 * (a * b + (2 * n - 1) * b * b) for a, b, n in stages)
    kernels += sum(a * b for a, b, _ in stages if a != b)
    norms = 2 * (16 + sum((2 * n + (a != b)) * b for a, b, n in stages))
    assert sum(p.numel() for p in model.parameters()) == kernels + norms + 129 * 10 == 996_602


def test_the_stem_keeps_the_size(shipped: weights.Weights) -> None:
    model = zoo.get_model(NAME)
    model.load_state_dict(shipped)
    network = trtnet.Network("rtx")
    network.output("logits", model(network.input("input", (1, 1, 32, 32))))
    shapes = {path: tensor.shape for path, tensor in network.module_outputs.items()}
    sizes = {"layer1": 32, "layer2": 16, "layer3": 8, "layer4": 4}
    assert {path: shapes[path][-1] for path in sizes} == sizes
    # Four convolutions of a 16x16 kernel per pixel and stage, as every stage halves the size and
    # doubles the width; each first one of a stage has half the inputs; projections; classifier.
    full = 9 * 16 * 16 * 32 * 32
    macs = full / 16 + 4 * full + 3 * (3.5 * full + full / 18) + 2 * full + 1280
    assert graph.macs(graph.read(network.definition)) == macs


def test_distortions_are_reproducible_and_stay_images(
    train_resnet: ModuleType, held_out: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = held_out
    assert images.shape == (3600, 1, 32, 32)
    assert images.dtype == np.float32
    assert 0 <= images.min() <= images.max() <= 1
    again, _ = train_resnet.distorted_digits("held-out")
    np.testing.assert_array_equal(images, again)
    plain, plain_labels = train_resnet.digits("held-out")
    np.testing.assert_array_equal(
        labels.reshape(len(plain), -1), plain_labels[:, None].repeat(8, 1)
    )
    copies = images.reshape(len(plain), 8, -1)
    assert all(len(np.unique(digit, axis=0)) == 8 for digit in copies)


def test_distortions_without_size_change_nothing(
    train_resnet: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ROTATION": 0.0, "SHIFT": 0.0, "SCALES": (1.0, 1.0),
                        "CONTRASTS": (1.0, 1.0), "NOISES": (0.0, 0.0)}.items():  # fmt: skip
        monkeypatch.setattr(train_resnet, name, value)
    images, _ = train_resnet.digits("train")
    found = train_resnet.distorted(images[:20], np.random.default_rng(0))
    np.testing.assert_allclose(found, images[:20], atol=1e-5)


def test_training_images_are_not_among_the_held_out(train_resnet: ModuleType) -> None:
    train, held_out = (train_resnet.digits(split)[0] for split in ("train", "held-out"))
    assert len(train) + len(held_out) == 1797
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in held_out}


def test_training_is_reproducible(
    train_resnet: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = train_resnet.digits("train")
    monkeypatch.setattr(train_resnet, "digits", lambda split: (images[:64], labels[:64]))
    monkeypatch.setattr(train_resnet, "EPOCHS", 1)
    first, second, other = (train_resnet.train(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_the_shipped_file_says_what_it_is(shipped: weights.Weights) -> None:
    assert shipped.path is not None
    assert shipped.path.stat().st_size < 4.1e6
    assert shipped.metadata["architecture"] == NAME
    assert shipped.metadata["weights"] in zoo.get_entry(NAME).embedded
    assert shipped.metadata["sha256"] == weights.data_sha256(shipped)
    assert int(shipped.metadata["parameters"]) == weights.parameter_count(shipped)
    assert shipped.class_names == list("0123456789")
    assert shipped.preprocessing is not None
    assert shipped.preprocessing["resize_size"] == [32]


def test_the_shipped_accuracy_is_as_stated(
    shipped: weights.Weights, torch_model: torch.nn.Module, train_resnet: ModuleType
) -> None:
    accuracy = train_resnet.accuracy(torch_model, "held-out")
    assert 0.95 <= accuracy < 1
    assert float(shipped.metadata["accuracy"]) == pytest.approx(accuracy, abs=2 / 3600)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_network_is_as_accurate_as_pytorch(
    precision: str,
    shipped: weights.Weights,
    torch_model: torch.nn.Module,
    held_out: tuple[np.ndarray, np.ndarray],
) -> None:
    model = zoo.get_model(NAME)
    model.load_state_dict(shipped)
    network = trtnet.Network("rtx", precision=precision)
    network.output("logits", model(network.input("input", ("N", 1, 32, 32))))
    images, labels = (array[::4] for array in held_out)
    logits = reference.run(network.definition, {"input": images})["logits"]
    with torch.no_grad():
        wanted = torch_model(torch.from_numpy(images)).argmax(1).numpy()
    classes = logits.argmax(1)
    assert (classes != wanted).sum() <= {"fp32": 0, "fp16": 2}[precision]  # of 900
    assert abs((classes == labels).mean() - (wanted == labels).mean()) <= 0.002
