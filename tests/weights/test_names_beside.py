"""Class names that training scripts save beside a plain state_dict."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trtnet.weights import load

STATE = OrderedDict(weight=torch.ones(2, 3), bias=torch.zeros(2))
NAMES = ["cat", "dog"]


def saved(folder: Path, checkpoint: Any, **options: Any) -> Path:
    path = folder / "best.pt"
    torch.save(checkpoint, path, **options)
    return path


@pytest.mark.parametrize("entry", ["state_dict", "model", "model_ema"])
@pytest.mark.parametrize(
    "beside",
    [
        {"names": NAMES},
        {"names": dict(enumerate(NAMES))},
        {"class_names": tuple(NAMES)},
        {"args": {"names": NAMES, "lr": 0.1}},
        {"args": argparse.Namespace(class_names=NAMES, lr=0.1)},
        {"opt": argparse.Namespace(names=NAMES)},
        {"hyper_parameters": {"class_names": NAMES}},
        {"args": {"num_classes": 91}, "names": NAMES},  # a default of the script
        {"names": NAMES, "args": {"names": ["x", "y", "z"]}},
    ],
)
def test_names_are_taken(entry: str, beside: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path, {"epoch": 3, entry: STATE, "optimizer": {"state": {}}, **beside})
    weights = load(path)
    assert weights.class_names == NAMES
    assert weights.num_classes == 2
    assert weights.notes[-1] == "it names its 2 classes"
    assert weights["weight"].shape == (2, 3)


def test_a_command_line_of_the_old_format(tmp_path: Path) -> None:
    """The only class that is read of files that are no zip archive."""
    checkpoint = {"model": STATE, "args": argparse.Namespace(class_names=NAMES)}
    path = saved(tmp_path, checkpoint, _use_new_zipfile_serialization=False)
    assert load(path).class_names == NAMES


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"names": []},
        {"names": "cat, dog"},
        {"names": ["cat", 7]},
        {"names": ["cat", ""]},
        {"names": ["cat", "\ud800"]},  # half of a character: no file can hold it
        {"names": {0: "cat", 2: "dog"}},
        {"names": {"cat": 0, "dog": 1}},
        {"names": [["cat"], ["dog"]]},
        {"args": NAMES},
        {"args": SimpleNamespace(lr=0.1)},
        {"args": argparse.Namespace(names=None)},
        {"names": torch.zeros(2)},
    ],
)
def test_what_names_no_classes(beside: dict[str, Any], tmp_path: Path) -> None:
    weights = load(saved(tmp_path, {"model": STATE, **beside}))
    assert weights.class_names is None
    assert not any("names" in note for note in weights.notes)
    assert [*weights] == ["weight", "bias"]


def test_names_are_kept_by_a_conversion(tmp_path: Path) -> None:
    from trtnet.weights.__main__ import main

    names = ["a\x1b[31mb", "ü\n"]
    path = saved(tmp_path, {"model": STATE, "names": names})
    target = tmp_path / "w.safetensors"
    assert main(["convert", str(path), str(target)]) == 0
    assert load(target).class_names == names
    assert json.loads(load(target).metadata["class_names"]) == names
