"""Folders of safetensors files, written by the safetensors package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trtnet.errors import WeightsError
from trtnet.weights import extract, load
from trtnet.weights.__main__ import main

STATE = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 4),
    "conv.bias": torch.arange(2.0),
    "fc.weight": torch.ones(3, 2),
}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PLACES = {"conv.weight": FIRST, "conv.bias": FIRST, "fc.weight": SECOND}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in two files."""
    return sharded(tmp_path / "model")


def sharded(place: Path, places: dict[str, Any] | None = None, **index: Any) -> Path:
    place.mkdir()
    for name in (FIRST, SECOND):
        part = {key: STATE[key] for key, file in PLACES.items() if file == name}
        save_file(part, place / name, {"format": "pt", "part": name})
    content = {"metadata": {"total_size": 128}, "weight_map": places or PLACES, **index}
    (place / "model.safetensors.index.json").write_text(json.dumps(content))
    (place / "config.json").write_text("{}")
    return place


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json"])
def test_a_model_in_several_files(folder: Path, name: str) -> None:
    weights = load(folder / name)
    assert list(weights) == list(STATE)
    for key, tensor in STATE.items():
        np.testing.assert_array_equal(weights[key], tensor.numpy(), strict=True)
    assert weights.metadata == {"format": "pt"}
    assert weights.notes == ("put together from 2 files",)
    assert load(folder / name, key="conv")["bias"].shape == (2,)


def test_the_hash_is_that_of_all_files(folder: Path, tmp_path: Path) -> None:
    before = load(folder).sha256
    assert before == load(folder / "model.safetensors.index.json").sha256
    save_file({"fc.weight": torch.zeros(3, 2)}, folder / SECOND)
    assert load(folder).sha256 != before


@pytest.mark.parametrize("name", ["model.safetensors", "weights.safetensors"])
def test_a_model_in_one_file(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "old.pth").write_bytes(b"x")
    weights = load(tmp_path)
    assert weights.path == tmp_path / name
    assert weights.keys() == STATE.keys()


def test_commands_take_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sharded(Path("trained"))
    assert main(["inspect", "trained", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    files = [Path("trained") / name for name in (FIRST, SECOND, "model.safetensors.index.json")]
    assert report["bytes"] == sum(file.stat().st_size for file in files)
    assert main(["convert", "trained", "whole.safetensors"]) == 0
    assert load("whole.safetensors").keys() == STATE.keys()
    Path("lenet").mkdir()
    extract("lenet5", "lenet/model.safetensors")
    assert main(["extract", "lenet5", "--weights", "lenet", "-o", "again.safetensors"]) == 0
    again = load("again.safetensors")
    np.testing.assert_array_equal(again["c1.weight"], load("lenet")["c1.weight"])


def test_no_output_is_one_of_its_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / FIRST).read_bytes()
    assert main(["convert", str(folder), str(folder / FIRST)]) == 2
    assert FIRST in capsys.readouterr().err
    assert main(["extract", "lenet5", "--weights", str(folder), "-o", str(folder / FIRST)]) == 2
    assert (folder / FIRST).read_bytes() == before


def test_a_file_that_is_missing(folder: Path) -> None:
    os.remove(folder / SECOND)
    with pytest.raises(WeightsError, match="names a file that is not there") as caught:
        load(folder)
    assert f"expected: {SECOND}, with 1 tensors" in str(caught.value)
    assert FIRST in str(caught.value)


def test_a_tensor_in_two_files(folder: Path) -> None:
    save_file({"conv.bias": STATE["conv.bias"], "fc.weight": STATE["fc.weight"]},
              folder / SECOND)  # fmt: skip
    with pytest.raises(WeightsError, match=f"conv.bias.*has in {FIRST} too"):
        load(folder)


def test_a_tensor_in_no_entry(folder: Path) -> None:
    save_file({"fc.weight": STATE["fc.weight"], "more": torch.ones(1)}, folder / SECOND)
    with pytest.raises(WeightsError, match=r"more.*has nowhere"):
        load(folder)


def test_a_tensor_that_is_not_where_the_index_says(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m", {**PLACES, "gone.weight": SECOND})
    with pytest.raises(WeightsError, match=f"{SECOND} lacks tensors") as caught:
        load(folder)
    assert "'gone.weight'" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/tmp/x.safetensors", "a/b.safetensors", "..\\x.safetensors",
             "C:x.safetensors", "config.json", "", "x.safetensors/.."],
)  # fmt: skip
def test_a_path_out_of_the_folder(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    folder = sharded(tmp_path / "m", {**PLACES, "fc.weight": name})
    with pytest.raises(WeightsError, match="elsewhere than in a safetensors file of its folder"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[]", "has no weight_map"),
        ('{"weight_map": []}', "has no weight_map"),
        ('{"weight_map": {"a": 1}}', "index"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "occurs twice"),
        ("[" * 100, "nested too deeply"),
    ],
)
def test_a_damaged_index(folder: Path, content: str, message: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsError, match=message) as caught:
        load(folder)
    assert "fix: " in str(caught.value)


def test_an_empty_index_has_no_weights(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(WeightsError, match="names no tensor"):
        load(folder)


def test_several_files_without_an_index(folder: Path) -> None:
    os.remove(folder / "model.safetensors.index.json")
    with pytest.raises(WeightsError, match="several safetensors files and no index") as caught:
        load(folder)
    assert f"{FIRST}, {SECOND}" in str(caught.value)


def test_several_indices(folder: Path) -> None:
    (folder / "other.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="several indices"):
        load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_in_the_place_of_a_file(folder: Path) -> None:
    os.remove(folder / SECOND)
    os.mkfifo(folder / SECOND)
    with pytest.raises(WeightsError, match="not a regular file"):
        load(folder)
