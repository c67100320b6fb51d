"""``trtnet detect`` with a plain state_dict that a training script saved with its class names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from trtnet import zoo
from trtnet.cli.main import main

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "shapes_few.png"
NAMES = ["disc", "box", "tri", "sparkle"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(**beside: Any) -> None:
    state = load_file(zoo.get_entry("yolox_shapes").weights_file("SHAPES_V1"))
    torch.save({"epoch": 7, "model": state, **beside}, "best.pt")


def detect(*arguments: str) -> int:
    line = ["detect", "yolox_shapes", "--weights", "best.pt", "--image", str(IMAGE), "-o", "o.png"]
    return main([*line, "--json", "r.json", "--backend", "torch", "--device", "cpu", *arguments])


def found() -> list[dict[str, Any]]:
    (image,) = json.loads(Path("r.json").read_text())["images"]
    detections: list[dict[str, Any]] = image["detections"]
    return detections


@pytest.mark.parametrize(
    "beside",
    [{"names": NAMES}, {"args": argparse.Namespace(class_names=NAMES)}, {"args": {"names": NAMES}}],
)
def test_the_names_are_those_of_the_file(
    beside: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    save(**beside)
    assert detect() == 0
    text = capsys.readouterr().out
    assert "best.pt: it names its 4 classes" in text
    assert len(found()) == 10
    for one in found():
        assert one["name"] == NAMES[one["class"]]
        assert f" {one['name']} " in text


@pytest.mark.parametrize("names", [NAMES[:3], [*NAMES, "moon"]])
def test_another_number_of_names_is_refused(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save(names=names)
    assert detect() == 2
    error = capsys.readouterr().err
    assert f"best.pt: {len(names)} class names for 4 classes" in error
    assert "--class-names FILE (class_names=)" in error
    assert not Path("o.png").exists()
    assert not Path("r.json").exists()
    build = ["--weights", "best.pt", "--backend", "torch", "--saveEngine", "x.engine"]
    assert main(["zoo", "yolox_shapes", *build, "--skip-verify"]) == 2
    assert not Path("x.engine").exists()
    Path("all.txt").write_text("\n".join(NAMES))
    assert detect("--class-names", "all.txt") == 0
    assert {one["name"] for one in found()} <= {*NAMES}
    Path("few.txt").write_text("\n".join(NAMES[:2]))
    assert detect("--class-names", "few.txt") == 2
    assert "2 class names for 4 classes" in capsys.readouterr().err


def test_names_are_no_commands_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """They are drawn and printed escaped, and a long one is cut in the picture."""
    names = ["\x1b[31mred", "a\nerror: fake", "\u202eback", "x" * 300_000]
    save(names=names)
    assert detect() == 0
    written = capsys.readouterr()
    for sign in ("\x1b", "\u202e", "a\nerror"):
        assert sign not in written.out + written.err
    assert {one["name"] for one in found()} <= {*names}
    with Image.open("o.png") as image:
        assert np.asarray(image).std() > 0
    save(names=["\x1b[31mred", "a\nerror: fake"])
    assert detect() == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "2 class names for 4 classes" in error
    assert not [line for line in error.splitlines() if line.startswith("error: fake")]
