"""``trtnet detect --compare``."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trtnet.cli.main import main

DATA = Path(__file__).parents[1] / "data" / "detection"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
PREPARED = ["--letterbox-size", "64", "--pad-color", "0", "--interpolation", "nearest"]
HERE = ["--backend", "torch", "--device", "cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Detectors, and pictures of 640 by 320 pixels: a red square, and one half blue; nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("cells.py", "apart.py"):
        Path(name).write_bytes((DATA / name).read_bytes())
    pixels = np.zeros((320, 640, 3), np.uint8)
    Path("in").mkdir()
    Image.fromarray(pixels).save("in/none.png")
    pixels[80:160, 160:240, 0] = 255
    pixels[280:320, 560:640, 2] = 255
    Image.fromarray(pixels).save("in/a.png")
    return tmp_path


def compare(target: str, *arguments: str) -> int:
    return main(["detect", target, *arguments, "--compare", *PREPARED, *HERE])


def test_the_table_and_the_report(capsys: pytest.CaptureFixture) -> None:
    """The twin's boxes are off by known amounts: see ``apart.py``."""
    flags = ["--folder", "in", "-o", "out", "--json", "r.json", "--csv", "t.csv"]
    assert compare("apart.py:make", *flags, "--coco-json", "c.json", "--score-threshold", ".3") == 0
    text = capsys.readouterr().out
    assert re.search(r"^compared +with apart of torch \S+, in FP32 on the CPU$", text, re.MULTILINE)
    assert re.search(r"a\.png .* matched +1\.00 +0\.94 +\+0\.0625 +0\.9512 +0  class 0 +160\.0, ",
                     text)  # fmt: skip
    assert re.search(r"^ +engine only +0\.50 +- +2  class 2 +560\.0, ", text, re.MULTILINE)
    assert re.search(r"^ +PyTorch only +- +0\.44 +2  class 2 +600\.0, ", text, re.MULTILINE)
    assert re.search(r"^in/none\.png .* nothing found$", text, re.MULTILINE)
    assert ("compared  1 of 2 boxes matched, worst IoU 0.9512, worst score difference 0.062; "
            "1 of the engine and 1 of PyTorch alone\n") in text  # fmt: skip
    report = json.loads(Path("r.json").read_text())
    counts = {"matched": 1, "engine_only": 1, "torch_only": 1, "worst_score_difference": 0.0625,
              "worst_iou": pytest.approx(7.8 / 8.2)}  # fmt: skip
    against = report["comparison"].pop("against")
    assert (report["comparison"], against.startswith("apart of torch ")) == (counts, True)
    first, nothing = report["images"]
    assert [one["score"] for one in first["detections"]] == [1.0, 0.5]
    boxes = first["comparison"].pop("boxes")
    assert first["comparison"].pop("torch_seconds") > 0
    assert first["comparison"] == counts
    assert [one["status"] for one in boxes] == ["matched", "engine only", "PyTorch only"]
    assert boxes[0] == {
        "status": "matched", "class": 0, "name": "class 0", "iou": pytest.approx(7.8 / 8.2),
        "score_difference": 0.0625, "engine": {"score": 1.0, "box": [160, 80, 240, 160]},
        "torch": {"score": 0.9375, "box": [162, 80, 242, 160]},
    }  # fmt: skip
    assert (boxes[1]["torch"], boxes[2]["engine"], boxes[2]["iou"]) == (None, None, None)
    assert nothing["comparison"]["boxes"] == []
    rows = [*csv.DictReader(Path("t.csv").read_text().splitlines())]
    assert [row["boxes"] for row in rows] == ["matched", "engine only", "PyTorch only", ""]
    assert (rows[0]["score"], rows[0]["torch_score"], rows[0]["x1"]) == ("1", "0.9375", "160")
    assert (rows[1]["torch_score"], rows[2]["score"], rows[2]["torch_x1"]) == ("", "", "600")
    assert [one["score"] for one in json.loads(Path("c.json").read_text())] == [1.0, 0.5]
    with Image.open("out/a.png") as image:
        assert image.size > (640, 320)  # with a legend
        assert np.asarray(image)[120, 160].tolist() == [240, 140, 0]


def test_an_engine_of_a_weights_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its sidecar does not say where the file is."""
    assert main(["weights", "extract", "yolox_shapes", "-o", "w.safetensors"]) == 0
    build = ["--weights", "w.safetensors", "--backend", "torch", "--saveEngine", "s.engine"]
    assert main(["zoo", "yolox_shapes", *build, "--skip-verify"]) == 0
    detect = ["detect", "s.engine", "--image", str(IMAGES / "shapes_few.png"), "-o", "o.png",
              "--device", "cpu"]  # fmt: skip
    assert main([*detect, "--compare"]) == 2
    error = capsys.readouterr().err
    assert "built with other weights" in error
    assert "--weights FILE" in error
    assert not Path("o.png").exists()
    flags = ["--compare", "--weights", "w.safetensors", "--json", "r.json"]
    assert main([*detect, *flags]) == 0
    found: Any = json.loads(Path("r.json").read_text())["comparison"]
    assert (found["matched"], found["engine_only"], found["torch_only"]) == (10, 0, 0)
    assert found["worst_iou"] > 0.999
    assert main([*detect, "--weights", "w.safetensors"]) == 2  # alone it changes nothing


@pytest.mark.parametrize(
    ("target", "flags", "message"),
    [
        ("cells.py:make", [], "no counterpart in PyTorch"),
        ("apart.py:make", ["--palette", "voc"], "--palette and --compare exclude each other"),
        ("cells.engine", [], "which model of trtnet it was built of"),
        ("unet", [], "for segmentation, not for detection"),
    ],
)
def test_bad_usage(
    target: str, flags: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    if target == "cells.engine":
        build = ["--backend", "torch", "--saveEngine", target, "--skip-verify"]
        assert main(["zoo", "cells.py:make", *build]) == 0
    assert compare(target, "--image", "in/a.png", "-o", "o.png", *flags) == 2
    assert message in capsys.readouterr().err
    assert not Path("o.png").exists()
