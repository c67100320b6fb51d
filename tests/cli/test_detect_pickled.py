"""``trtnet detect`` with a checkpoint that pickles the whole detector; its package is gone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trtnet import weights, zoo
from trtnet.cli.main import main
from trtnet.weights.__main__ import main as weights_main

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "shapes_few.png"
NAMES = ["disc", "box", "tri", "sparkle", "moon"]
MAKE = """
import sys
import torch
from safetensors.torch import load_file
from gone_detector.models.yolox import YOLOX

shipped, names, half = sys.argv[1], sys.argv[2].split(","), sys.argv[3] == "half"
state = load_file(shipped)
for key in [key for key in state if "cls_preds" in key]:  # classes that are never found
    more = torch.full((len(names) - 4, *state[key].shape[1:]), 0.0 if "weight" in key else -20.0)
    state[key] = torch.cat([state[key], more])
model = YOLOX(len(names), 0.33, 0.15625, False)
model.load_state_dict(state)
model.names = dict(enumerate(names))
if half:
    model.half()
torch.save({"epoch": 7, "ema": model, "model": torch.nn.Linear(2, 2)}, "best.pt")
"""


def make(folder: Path, names: list[str], kind: str = "float") -> str:
    """The shipped detector as a training script would save it."""
    package = folder / "gone_detector" / "models"
    package.mkdir(parents=True)
    source = Path(zoo.__file__).parent / "detection" / "torch_yolox.py"
    (package / "yolox.py").write_bytes(source.read_bytes())
    shipped = zoo.get_entry("yolox_shapes").weights_file("SHAPES_V1")
    subprocess.run(
        [sys.executable, "-c", MAKE, str(shipped), ",".join(names), kind], cwd=folder, check=True
    )
    shutil.rmtree(folder / "gone_detector")
    return str(folder / "best.pt")


def found(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """What ``trtnet detect`` says of the sample picture; the picture is written."""
    report, drawn = folder / "boxes.json", folder / "out.png"
    line = ["detect", "yolox_shapes", "--image", str(IMAGE), "-o", str(drawn), "--json"]
    assert main([*line, str(report), "--device", "cpu", *arguments]) == 0
    with Image.open(drawn) as picture:
        assert np.asarray(picture).std() > 0
    (image,) = json.loads(report.read_text())["images"]
    detections: list[dict[str, Any]] = image["detections"]
    return detections


@pytest.mark.parametrize("names", [NAMES[:4], NAMES], ids=["4 classes", "5 classes"])
def test_from_a_checkpoint_to_a_picture(names: list[str], tmp_path: Path) -> None:
    expected = found(tmp_path)
    assert len(expected) == 10
    theirs = found(tmp_path, "--weights", make(tmp_path, names))
    for one, other in zip(theirs, expected, strict=True):
        assert one["class"] == other["class"]
        assert one["name"] == names[one["class"]]
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
        np.testing.assert_allclose(one["box"], other["box"], atol=1e-3)


def test_a_file_is_extracted_with_its_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = make(tmp_path, NAMES, "half")
    assert weights_main(["extract", source]) == 0
    told = capsys.readouterr().err
    assert f"note: {source}: taken from its entry ema, the averaged weights" in told
    assert "stubs stand for 15 classes of gone_detector, torch" in told
    assert "388 tensors are widened from float16 to float32" in told
    written = weights.load("best.safetensors")
    assert written.class_names == NAMES
    assert written.num_classes == 5
    assert written["head.cls_preds.0.bias"].dtype == np.float32
    assert len(found(tmp_path, "--weights", "best.safetensors")) == 10


def test_a_file_has_no_weights_of_its_own_to_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.safetensors"
    line = ["extract", "best.pt", "--num-classes", "3", "-o", str(target)]
    assert weights_main(line) == 2
    assert "num_classes cannot be chosen for a file of weights" in capsys.readouterr().err
    assert not target.exists()
