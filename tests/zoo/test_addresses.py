"""A model of one's own: in one file outside the package, or in a module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import trtnet
from trtnet import reference, zoo
from trtnet.errors import UsageError
from trtnet.zoo import addresses
from trtnet.zoo.addresses import Address

FOLDER = Path(__file__).with_name("own_models")
MODEL, TWIN, REGISTERED = (
    (FOLDER / f"{name}.txt").read_text() for name in ("model", "twin", "registered")
)
PARAMETERS = 3 * 8 * 9 + 8 + 2 * 8 + 8 * 4 + 4
MACS = 16 * 16 * 8 * 3 * 9 + 8 * 4

Write = Callable[..., Path]


# Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("small.py:net", Address("small.py", "net", True)),
        ("~/my models/small.py:Nets.first", Address("~/my models/small.py", "Nets.first", True)),
        (r"C:\my models\small.py:net", Address(r"C:\my models\small.py", "net", True)),
        ("models/small:net", Address("models/small", "net", True)),
        ("package.module:net", Address("package.module", "net", False)),
        ("package:Nets.first", Address("package", "Nets.first", False)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert addresses.is_address(text)
    assert addresses.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["a:", ":a", "a:1b", "1a:b", "a-b:c", "a:b c", "a..b:c", "x:y.py"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="address"):
        zoo.get_entry(text)


def test_the_home_folder_and_relative_paths(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("my models/small net.py", MODEL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folders = ("~/my models", "my models", "./my models", str(tmp_path / "my models"))
    found = [zoo.get_model(f"{folder}/small net.py:SmallNet") for folder in folders]
    assert len({type(model) for model in found}) == 1  # imported once


# A file


def test_a_bare_class_with_nothing_but_its_layers(write: Write) -> None:
    path = write("small.py", MODEL)
    before = list(sys.path)
    entry = zoo.get_entry(f"{path}:SmallNet")
    assert sys.path == before
    assert (entry.name, entry.input_shape, entry.arguments) == ("SmallNet", None, ("num_classes",))
    assert [entry.has_counterpart(), entry.shipped, entry.torchvision] == [False, False, False]
    assert zoo.get_model(f"{path}:SmallNet", num_classes=7).fc.weight.shape == (7, 8)
    assert "SmallNet" not in zoo.list_models()
    assert "small" not in sys.modules
    with pytest.raises(UsageError, match="SmallNet: the model has no counterpart in PyTorch"):
        entry.torch_model()
    with pytest.raises(UsageError, match="does not say what its input is") as caught:
        entry.require_input_shape()
    assert "SmallNet.input_shape = (3, 224, 224)" in str(caught.value)


def test_a_bare_function_with_attributes(write: Write, zoo_checks: ModuleType) -> None:
    code = """
def net(num_classes=4):
    return SmallNet(num_classes)

def twin(num_classes=4):
    return TorchSmallNet(num_classes)

net.input_shape, net.twin, net.task = [3, 16, 16], twin, "classification"
"""
    path = write("own.py", MODEL + TWIN + code)
    entry = zoo.get_entry(f"{path}:net")
    assert (entry.input_shape, entry.has_counterpart()) == ((3, 16, 16), True)
    theirs, ours = zoo_checks.equal_pair(entry, (1, 3, 16, 16), num_classes=5)
    images = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    network = zoo_checks.define(ours, images.shape, backend="rtx")
    found = reference.run(network.definition, {"input": images})["logits"]
    import torch

    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_registered_models_of_a_file_and_the_tools(
    write: Write, zoo_checks: ModuleType, zoo_cards: ModuleType
) -> None:
    write("torch_small.py", TWIN)
    path = write("own.py", REGISTERED)
    entry = zoo.get_entry(f"{path}:small_net")
    assert (entry.name, entry.input_shape, entry.has_counterpart()) == (
        "small_net",
        (3, 16, 16),
        True,
    )
    assert zoo.get_entry(f"{path}:bare").input_shape is None
    facts = zoo_cards.facts(entry)
    assert facts == {
        "task": "classification", "input_shape": (3, 16, 16), "papers": (),
        "parameters": PARAMETERS, "macs": MACS, "default_weights": None, "weights": {}
    }  # fmt: skip
    record = zoo_checks.measure(f"{path}:small_net")
    assert (record["passed"], record["published"]) == (True, None)
    assert (record["parameters"], record["macs"]) == (PARAMETERS, MACS)
    assert set(record["settings"]) == {"default", "dynamic batch", "other size"}
    assert record["settings"]["other size"]["exact"] <= 1e-10
    with pytest.raises(UsageError, match="no PyTorch model to compare with"):
        zoo_checks.measure(f"{path}:bare")


def test_cards_are_computed_where_none_is_stored(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("torch_small.py", TWIN)
    path = write("own.py", f'"""See https://arxiv.org/abs/1234.5678."""\n{REGISTERED}')
    card = zoo.card(f"{path}:small_net")
    assert (card.name, card.parameters, card.macs) == ("small_net", PARAMETERS, MACS)
    assert (card.weights, card.preprocessing, card.distribution) == ((), None, None)
    assert card.papers == ("https://arxiv.org/abs/1234.5678",)
    known = zoo.card(f"{path}:small_net", compute=False)
    assert (known.input_shape, known.parameters, known.macs) == ((3, 16, 16), None, None)
    bare = zoo.card(f"{path}:bare")
    assert (bare.input_shape, bare.parameters, bare.macs) == (None, PARAMETERS, None)
    own = zoo.card(write("stolen.py", f"{MODEL}\nresnet50 = SmallNet").as_posix() + ":resnet50")
    assert own.parameters == PARAMETERS  # the card of the zoo's resnet50 is another's

    def absent(*args: object, **kwargs: object) -> None:
        raise trtnet.BackendError("no TensorRT here")

    monkeypatch.setattr("trtnet.network.Network", absent)
    without = zoo.card(f"{path}:small_net")
    assert (without.parameters, without.macs) == (PARAMETERS, None)


def test_weights_are_converted_for_a_model_by_address(write: Write, tmp_path: Path) -> None:
    address = f"{write('small.py', MODEL)}:SmallNet"
    model = zoo.get_model(address)
    slots = [*model.named_parameters(), *model.named_buffers()]
    state = {name: np.ones(slot.shape, np.float32) for name, slot in slots}
    trtnet.weights.save(tmp_path / "a.safetensors", state)
    trtnet.weights.convert(tmp_path / "a.safetensors", tmp_path / "a.wts", address)
    trtnet.weights.convert(tmp_path / "a.wts", tmp_path / "b.safetensors", address)
    found = trtnet.weights.load(tmp_path / "b.safetensors")
    assert found.metadata["architecture"] == "SmallNet"
    assert found["conv.weight"].shape == (8, 3, 3, 3)


def test_two_folders_with_files_of_the_same_names(write: Write) -> None:
    for folder, width in (("old", 3), ("new", 5)):
        write(f"{folder}/blocks.py", f"WIDTH = {width}")
        write(f"{folder}/net.py", """
from trtnet import nn, zoo
from blocks import WIDTH

@zoo.register
def versioned():
    import blocks
    assert blocks.WIDTH == WIDTH
    return nn.Conv2d(WIDTH, 1, 1)
""")  # fmt: skip
    path = write("here", "").parent
    for folder, width in (("old", 3), ("new", 5), ("old", 3)):
        model = zoo.get_model(f"{path / folder / 'net.py'}:versioned")
        assert model.weight.shape == (1, width, 1, 1)
    assert "versioned" not in zoo.list_models()


def test_the_same_file_again_is_not_run_again(write: Write) -> None:
    path = write(
        "once.py", f"{MODEL}\nimport builtins\nbuiltins.runs = getattr(builtins, 'runs', 0) + 1"
    )
    try:
        for _ in range(3):
            zoo.get_entry(f"{path}:SmallNet")
        import builtins

        assert builtins.runs == 1
    finally:
        del builtins.runs


# A module


def test_a_module_on_the_search_path(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("own_package/__init__.py", "")
    write("own_package/models.py", f"{MODEL}\nclass Nets:\n    small = SmallNet")
    monkeypatch.syspath_prepend(tmp_path)
    assert zoo.get_model("own_package.models:SmallNet").fc.weight.shape == (4, 8)
    assert zoo.get_entry("own_package.models:Nets.small").name == "Nets.small"
    with pytest.raises(UsageError, match=r"there is no module 'own_package\.model'") as caught:
        zoo.get_entry("own_package.model:SmallNet")
    assert "PYTHONPATH" in str(caught.value)


def test_the_zoos_own_models_have_addresses_too() -> None:
    assert zoo.get_entry("trtnet.zoo.resnet:resnet50") == zoo.get_entry("resnet50")
