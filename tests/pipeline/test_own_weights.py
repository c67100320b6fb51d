"""A checkpoint of one's own: its wrappers, its prefixes and its number of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trtnet import pipeline, zoo
from trtnet.cli import weights as weights_command
from trtnet.cli.main import main as trtnet_main
from trtnet.errors import WeightsError
from trtnet.pipeline.model import builder_arguments, fill
from trtnet.zoo.__main__ import main

MODEL = "squeezenet1_1"


NOTES = [
    "taken from its entry model_state_dict",
    "52 keys carry the prefix `_orig_mod.`: dropped",
    "num_classes=5, as classifier.1.weight has the shape (5, 512, 1, 1) in place of "
    "(1000, 512, 1, 1)",
]


class Notes:
    """An observer of notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def save(path: Path, prefix: str = "_orig_mod.", **arguments: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = zoo.get_entry(MODEL).torch_model(**arguments).state_dict()
    torch.save({"model_state_dict": {f"{prefix}{k}": v for k, v in state.items()}}, path)
    return dict(state)


def filled(path: Path, notes: Notes | None = None, model: str = MODEL, **options: Any) -> Any:
    recipe = pipeline.Recipe(model, weights=str(path), **options)
    observer: Any = notes
    return fill(recipe, builder_arguments(recipe), None, observer)


def test_the_number_of_classes_is_taken_from_the_file(tmp_path: Path) -> None:
    save(path := tmp_path / "five.pth", num_classes=5)
    made = filled(path, notes := Notes())
    assert made.arguments == {"num_classes": 5}
    assert made.module.state_dict()["classifier.1.weight"].shape == (5, 512, 1, 1)
    assert notes.notes == [f"{path}: {note}" for note in NOTES]


def test_a_number_that_the_user_gave_is_not_changed(tmp_path: Path) -> None:
    save(path := tmp_path / "five.pth", num_classes=5)
    with pytest.raises(WeightsError) as caught:
        filled(path, arguments={"num_classes": 7})
    assert str(caught.value) == (
        f"squeezenet1_1: the weights in {path} are those of num_classes=5\n"
        "  expected: classifier.1.weight of the shape (7, 512, 1, 1)\n"
        "  got: (5, 512, 1, 1)\n"
        "  fix: --num-classes 5, in Python num_classes=5"
    )


def test_an_image_size_is_named(tmp_path: Path) -> None:
    (tmp_path / "patches.py").write_text(
        "import torch\n"
        "class Patches(torch.nn.Module):\n"
        "    def __init__(self, image_size=224):\n"
        "        super().__init__()\n"
        "        n = (image_size // 16) ** 2 + 1\n"
        "        self.position = torch.nn.Parameter(torch.ones(1, n, 8))\n"
        "    def forward(self, x):\n"
        "        return x + self.position\n"
    )
    torch.save({"position": torch.ones(1, 577, 8)}, path := tmp_path / "vit.pth")
    with pytest.raises(WeightsError, match="are those of image_size=384") as caught:
        filled(path, model=f"{tmp_path}/patches.py:Patches")
    assert caught.value.fix == "--image-size 384, in Python image_size=384"


def test_arguments_of_models_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net(channels=3, width=8, labels=10):\n"
        "    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(width, labels))\n"
    )
    model = f"{tmp_path}/net.py:net"

    def trained(**arguments: int) -> Path:
        state = zoo.get_entry(model).torch_model(**arguments).state_dict()
        torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "net.pth")
        return tmp_path / "net.pth"

    assert filled(trained(labels=4), model=model).arguments == {"labels": 4}
    with pytest.raises(WeightsError, match="are those of channels=4") as caught:
        filled(trained(channels=4), model=model)
    assert caught.value.fix == "make the model with channels=4"
    with pytest.raises(WeightsError, match="are those of width=12"):
        filled(trained(width=12), model=model)


def test_errors_come_in_the_order_in_which_they_can_be_mended(tmp_path: Path) -> None:
    state = save(path := tmp_path / "other.pth", num_classes=5)
    del state["features.0.weight"]
    torch.save({f"net.{k}": v for k, v in state.items()}, path)
    with pytest.raises(WeightsError) as caught:
        filled(path)
    message = str(caught.value)
    assert "do not fit SqueezeNet: 1 problem(s)\n" in message
    assert "missing: features.0.weight" in message
    with pytest.raises(WeightsError) as caught:
        filled(path, model="mobilenet_v2")
    assert len(str(caught.value).splitlines()) < 12


def test_the_zoo_builds_it_and_says_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    state = save(tmp_path / "five.pth", num_classes=5)
    torch.save({"state_dict": state, "state_dict_ema": state}, "both.pth")
    flags = [MODEL, "--image-size", "64", "--backend", "torch"]
    assert main([*flags, "--weights", "five.pth", "--json", "r.json"]) == 0
    printed = "".join(capsys.readouterr())
    assert "note: five.pth: 52 keys carry the prefix `_orig_mod.`: dropped" in printed
    assert "note: five.pth: num_classes=5, as classifier.1.weight" in printed
    (sidecar,) = Path("engines").glob("*.engine.json")
    for written in (Path("r.json"), sidecar):
        assert json.loads(written.read_text())["weights"]["notes"] == NOTES
    assert main([*flags, "--weights", "both.pth", "--weights-key", "state_dict"]) == 0
    printed = "".join(capsys.readouterr())
    assert "note: both.pth: taken from its entry state_dict\n" in printed
    assert " is there, " not in printed
    assert main([*flags, "--weights", "random", "--weights-key", "ema"]) == 2
    assert "--weights-key (weights_key=) names a part of a file" in capsys.readouterr().err


def test_commands_for_weights_say_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "five.pth", num_classes=5)
    assert weights_command.main(["convert", "five.pth", "x.safetensors", "--model", MODEL]) == 0
    err = capsys.readouterr().err
    assert "note: five.pth: 52 keys carry the prefix `_orig_mod.`: dropped\n" in err
    assert "note: five.pth: num_classes=5, as" in err
    assert weights_command.main(["inspect", "five.pth"]) == 0
    seen = capsys.readouterr()
    assert "_orig_mod.features.0.weight" in seen.out
    assert "52 keys carry the prefix `_orig_mod.`, which is dropped where" in seen.err
    assert weights_command.main(["inspect", "five.pth", "--weights-key", "_orig_mod"]) == 0
    assert "\nfeatures.0.weight" in capsys.readouterr().out


def test_reports_of_other_commands_have_the_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "five.pth", num_classes=5)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save("a.png")
    weights = ["--weights", "five.pth", "--json", "r.json"]

    def report() -> dict[str, Any]:
        return dict(json.loads(Path("r.json").read_text()))

    images = ["--image", "a.png", "--preprocess", "unit", "--input", "1x3x64x64"]
    assert trtnet_main(["classify", MODEL, *weights, *images, "--device", "cpu"]) == 0
    assert report()["weights_notes"] == NOTES
    assert trtnet_main(["verify", MODEL, *weights, "--input", "1x3x64x64"]) == 0
    assert report()["weights_notes"] == NOTES
    np.save("data.npy", np.zeros((2, 3, 64, 64), np.float32))
    data = ["--data", "data.npy", "--batch", "1", "--input", "1x3x64x64", "--to", "bf16"]
    assert trtnet_main(["sensitivity", MODEL, *weights, *data]) == 0
    assert report()["weights_notes"] == NOTES
    capsys.readouterr()
    assert weights_command.main(["inspect", "five.pth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [
        NOTES[0],
        "52 keys carry the prefix `_orig_mod.`, which is dropped where the weights are loaded",
    ]
    extract = ["extract", MODEL, "--weights", "five.pth", "-o", "x.safetensors", "--json"]
    assert weights_command.main(extract) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == NOTES
