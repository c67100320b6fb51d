"""``weights convert`` stores how images are prepared and what classes are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import zoo
from trtnet.cli.weights import main
from trtnet.pipeline.class_names import read_class_names


@pytest.fixture(autouse=True)
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a training script leaves it."""
    import torch

    monkeypatch.chdir(tmp_path)
    model = zoo.get_entry("mobilenet_v2").torch_model(num_classes=3)
    torch.save(model.state_dict(), "mine.pth")
    Path("names.txt").write_text("daisy\nrose\ntulip\n")


def convert(*flags: str) -> Any:
    model = ("--model=mobilenet_v2", "--num-classes=3")
    assert main(["convert", "mine.pth", "mine.safetensors", *model, *flags]) == 0
    return trtnet.weights.load("mine.safetensors")


def test_both_are_stored_and_used() -> None:
    found = convert("--preprocess=imagenet", "--crop-size=192", "--class-names=names.txt")
    assert found.class_names == ["daisy", "rose", "tulip"]
    assert found.preprocessing == {
        "resize_size": [256],
        "crop_size": [192, 192],
        "channels": "rgb",
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
        "antialias": True,
    }
    assert json.loads(found.metadata["preprocessing"]) == found.preprocessing
    shown = ["--backend=torch", "--saveEngine=e.engine", "--skip-verify", "--num-classes=3"]
    from trtnet.cli.zoo import main as build

    assert build(["mobilenet_v2", "--weights=mine.safetensors", *shown, "--image-size=64"]) == 0
    sidecar = json.loads(Path("e.engine.json").read_text())
    assert sidecar["class_names"] == ["daisy", "rose", "tulip"]
    assert sidecar["preprocessing"]["resize_size"] == [85]  # 256 / 192 of 64
    assert sidecar["preprocessing"]["crop_size"] == [64, 64]
    assert sidecar["preprocessing_source"] == "weights mine.safetensors"


def test_entries_change_one_by_one() -> None:
    convert("--preprocess=imagenet")
    Path("mine.safetensors").rename("first.safetensors")
    flags = ["--std=0.5", "--class-names=names.txt"]
    assert main(["convert", "first.safetensors", "second.safetensors", *flags]) == 0
    found = trtnet.weights.load("second.safetensors")
    assert found.preprocessing is not None
    assert found.preprocessing["std"] == [0.5] * 3
    assert found.preprocessing["resize_size"] == [256]


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--model=mobilenet_v2", "--num-classes=3", "--class-names=one.txt"],
         ["mobilenet_v2: 1 class names for 3 classes"]),
        (["--preprocess=nothing"], ["no preprocessing called 'nothing'"]),
        (["--std=0"], ["wrong value at std"]),
        (["--class-names=missing.txt"], ["there is no file missing.txt"]),
    ],
)  # fmt: skip
def test_bad_usage(flags: list[str], texts: list[str], capsys: pytest.CaptureFixture) -> None:
    Path("one.txt").write_text("a")
    assert main(["convert", "mine.pth", "mine.safetensors", *flags]) == 2
    error = capsys.readouterr().err
    for text in texts:
        assert text in error
    assert not Path("mine.safetensors").exists()


@pytest.mark.parametrize("target", ["other.pth", "other.wts"])
def test_other_formats_hold_no_metadata(target: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert", "mine.pth", target, "--preprocess=imagenet"]) == 2
    error = capsys.readouterr().err
    assert "have no metadata to store preprocessing in" in error
    assert "fix: name it other.safetensors" in error
    assert not Path(target).exists()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a\nb\n\n", ("a", "b")),
        ("a b\r\nc\r\n", ("a b", "c")),
        ('["a", "b"]', ("a", "b")),
        ('\n[\n "a",\n "\u00e9"\n]', ("a", "\u00e9")),
        ("[unknown]\n{other}", ("[unknown]", "{other}")),
        ("\ufeffa\nb", ("a", "b")),
    ],
)
def test_names_of_a_file(content: str, names: tuple[str, ...]) -> None:
    Path("names").write_bytes(content.encode())
    assert read_class_names("names") == names


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("", ["names.txt cannot be used as a list of class names: it names nothing"]),
        ("a\n\nb", ["class 1 has no name"]),
        ('["a", 3]', ["wrong value at [1]", "got: 3"]),
        ('["a", "b"', ["it is not JSON"]),
        ("\xff\xfe", ["one name per line, or a JSON list"]),
    ],
)
def test_bad_names(content: str, texts: list[str], raises: Any) -> None:
    Path("names.txt").write_bytes(content.encode("latin-1"))
    with raises(trtnet.UsageError, *texts):
        read_class_names("names.txt")


def test_the_number_is_checked_at_build(raises: Any) -> None:
    recipe = trtnet.pipeline.Recipe(
        "mobilenet_v2", backend="torch", class_names=("a", "b"), arguments={"num_classes": 3},
        image_size=32, verify=False,
    )  # fmt: skip
    with raises(trtnet.UsageError, "2 class names for 3 classes", "got: a, b"):
        trtnet.pipeline.run(recipe)


def test_what_weights_say_is_checked(raises: Any) -> None:
    state = {"metadata": {"preprocessing": json.dumps({"mean": [0.5] * 3, "bgr": True})}}
    weights = trtnet.weights.Weights({"a": np.zeros(1)}, state["metadata"])
    from trtnet.pipeline.preprocessing import restated, state_preprocessing

    with raises(trtnet.PlanError, "unknown key 'bgr'", 'write channels = "bgr"'):
        restated(weights)
    told = restated(weights, state_preprocessing("unit"))  # what the user says counts
    assert told.metadata["preprocessing_source"] == "unit"
