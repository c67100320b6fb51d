"""LeNet-5 and the weights it ships with."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import trtnet
from trtnet import reference, weights, zoo


@pytest.fixture(scope="module")
def shipped() -> weights.Weights:
    (file,) = zoo.get_entry("lenet5").embedded.values()
    return weights.load(Path(weights.__file__).parent / file)


@pytest.fixture(scope="module")
def torch_model(shipped: weights.Weights) -> torch.nn.Module:
    model = zoo.get_entry("lenet5").torch_model()
    model.load_state_dict({name: torch.tensor(array) for name, array in shipped.items()})
    return model


# Trainable parameters in section II.B of the paper; C3 sees all maps here, 16 * (6 * 25 + 1).
@pytest.mark.parametrize(
    ("layer", "parameters"), [("c1", 156), ("c3", 2416), ("c5", 48_120), ("f6", 10_164)]
)
def test_layers_have_the_papers_sizes(layer: str, parameters: int) -> None:
    model = zoo.get_model("lenet5")
    assert sum(p.numel() for p in getattr(model, layer).parameters()) == parameters


def test_the_split_is_fixed_stratified_and_complete(train_lenet: ModuleType) -> None:
    (train, train_labels), (held_out, labels) = map(train_lenet.digits, ("train", "held-out"))
    assert (len(train), len(held_out)) == (1347, 450)
    share = np.bincount(labels) / np.bincount(np.concatenate([labels, train_labels]))
    np.testing.assert_allclose(share, 0.25, atol=0.01)
    again, _ = train_lenet.digits("held-out")
    np.testing.assert_array_equal(held_out, again)


def test_digits_are_the_originals_enlarged(train_lenet: ModuleType) -> None:
    from sklearn.datasets import load_digits

    both = [train_lenet.digits(split)[0] for split in ("train", "held-out")]
    images = torch.from_numpy(np.concatenate(both))
    assert images.dtype == torch.float32
    originals = torch.from_numpy(load_digits().images).float()[:, None] / 16
    expected = torch.nn.functional.interpolate(originals, size=(32, 32), mode="nearest")
    assert _sorted(images) == _sorted(expected)


def _sorted(images: torch.Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)


def test_training_is_reproducible(train_lenet: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_lenet, "EPOCHS", 1)
    first, second, other = (train_lenet.train(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["c1.weight"], other["c1.weight"])


def test_the_shipped_file_says_what_it_is(shipped: weights.Weights) -> None:
    assert shipped.path is not None
    assert shipped.path.stat().st_size < 300_000
    assert shipped.metadata["architecture"] == "lenet5"
    assert shipped.metadata["weights"] in zoo.get_entry("lenet5").embedded
    assert shipped.metadata["sha256"] == weights.data_sha256(shipped)
    assert int(shipped.metadata["parameters"]) == weights.parameter_count(shipped) == 61_706
    assert shipped.class_names == list("0123456789")
    assert shipped.preprocessing is not None
    assert shipped.preprocessing["resize_size"] == [32]


def test_the_shipped_accuracy_is_as_stated(
    shipped: weights.Weights, torch_model: torch.nn.Module, train_lenet: ModuleType
) -> None:
    accuracy = train_lenet.accuracy(torch_model, "held-out")
    assert accuracy >= 0.97
    assert float(shipped.metadata["accuracy"]) == pytest.approx(accuracy, abs=1 / 450)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_network_is_as_accurate_as_pytorch(
    precision: str, shipped: weights.Weights, torch_model: torch.nn.Module, train_lenet: ModuleType
) -> None:
    model = zoo.get_model("lenet5")
    model.load_state_dict(shipped)
    network = trtnet.Network("rtx", precision=precision)
    network.output("logits", model(network.input("input", ("N", 1, 32, 32))))
    images, labels = train_lenet.digits("held-out")
    logits = reference.run(network.definition, {"input": images})["logits"]
    accuracy = float((logits.argmax(1) == labels).mean())
    assert abs(accuracy - train_lenet.accuracy(torch_model, "held-out")) <= 0.003
    assert accuracy >= 0.97
