"""``tools/coco.py``, on a data set of two images whose detections are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import coco
import numpy as np
import pytest
from PIL import Image

import trtnet

DATA = Path(__file__).parents[1] / "data" / "detection"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of 64 by 64 pixels: green and red cells of 8 by 8, the network's classes 1 and 0."""
    monkeypatch.chdir(tmp_path)
    Path("cells.py").write_bytes((DATA / "cells.py").read_bytes())
    Path("data/annotations").mkdir(parents=True)
    Path("data/val2017").mkdir()
    cells = {7: [(0, 0, 1), (16, 24, 1), (40, 8, 0)], 9: [(8, 56, 1)]}
    annotations: list[dict[str, Any]] = []
    for number, found in cells.items():
        pixels = np.zeros((64, 64, 3), np.uint8)
        for x, y, label in found:
            pixels[y : y + 8, x : x + 8, label] = 255 - 10 * len(annotations)
            annotations.append(box(len(annotations), number, label, x, y))
        Image.fromarray(pixels).save(f"data/val2017/{number:012}.png")
    annotations.append(box(len(annotations), 9, 1, 32, 32))  # is not to be seen
    truth(annotations)
    return tmp_path


def box(count: int, image: int, label: int, x: int, y: int) -> dict[str, Any]:
    return {"id": count + 1, "image_id": image, "category_id": label, "bbox": [x, y, 8, 8],
            "iscrowd": 0, "area": 64}  # fmt: skip


def truth(annotations: list[dict[str, Any]], names: str = "red green") -> None:
    values = {
        "info": {},
        "images": [{"id": number, "file_name": f"{number:012}.png", "width": 64, "height": 64}
                   for number in (7, 9)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names.split())],
        "annotations": annotations,
    }  # fmt: skip
    Path(f"data/annotations/{coco.INSTANCES}").write_text(json.dumps(values))


def test_average_precision() -> None:
    """Of class 0 all is found, and of class 1 three of four, and nothing that is not there: its
    precision is 1 at those 76 of the 101 recalls 0, 0.01 ... 1 that are reached."""
    flags = ["--coco", "data", "--models", "cells.py:make", "--weights", "random",
             "--precisions", "fp32", "fp16", "--backend", "torch", "--device", "cpu",
             "--json", "r.json"]  # fmt: skip
    assert coco.main(flags) == 0
    rows = json.loads(Path("r.json").read_text())
    wanted = 100 * (1 + 76 / 101) / 2
    assert [(row["precision"], row["figure"], row["images"]) for row in rows] == [
        ("fp32", "box_map", 2), ("fp16", "box_map", 2),
    ]  # fmt: skip
    assert rows[0]["map"] == rows[1]["map"] == pytest.approx(wanted, abs=0.01)


def test_only_some_images() -> None:
    """Of the first image everything is found."""
    subject = coco.Subject("cells.py:make", "random", {})
    found = coco.Truth.read(Path("data"), coco.INSTANCES, 1)
    assert coco.measure(subject, "fp32", found, Path("data/val2017"), "torch", "cpu") == {
        "box_map": pytest.approx(100)
    }


def test_classes_are_known_by_names() -> None:
    data = coco.Truth.read(Path("data"), coco.INSTANCES)
    assert data.category_ids(["green", "blue", "red"]) == {0: 1, 2: 0}
    assert data.category_ids(["green"]) is None
    assert data.category_ids([]) is None


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture) -> None:
    flags = ["--coco", "nowhere", "--models", "cells.py:make"]
    assert coco.main(flags) == 2
    text = capsys.readouterr().out
    assert "nowhere/annotations/instances_val2017.json: https://cocodataset.org" in text
    assert "nowhere/val2017" in text
    absent = coco.Subject("m", "DEFAULT", {"kp_map": 65.0}, Path("m.pth"))
    persons, weights = coco.missing(Path("data"), [absent])
    assert persons.startswith("data/annotations/person_keypoints_val2017.json")
    assert weights.startswith("m.pth: trtnet weights extract m --weights DEFAULT")
    Path("data/val2017/000000000009.png").unlink()
    with pytest.raises(trtnet.UsageError, match=r"1 of 2 images are missing(.|\n)*09\.png"):
        coco.Truth.read(Path("data"), coco.INSTANCES)


def test_torchvisions_figures() -> None:
    """Of those detectors that are registered."""
    for subject in coco.subjects():
        assert 20 < subject.published["box_map"] < 60
        assert subject.file is not None
        assert subject.file.suffix == ".pth"
