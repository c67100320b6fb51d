"""Boxes as labels: read, checked, and moved with their images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.graph import Graph, read
from trtnet.imaging import load_image
from trtnet.quantization import dataset
from trtnet.search.data import load_data

ARRAYS = {
    "input": np.zeros((3, 3, 40, 40), np.float32),
    "boxes": np.tile(np.array([[1.0, 2, 11, 22], [0, 0, 5, 5]], np.float32), (3, 1, 1)),
    "box_classes": np.array([[7, -1], [-1, -1], [1, 2]]),
}


@pytest.fixture
def graph() -> Graph:
    network = trtnet.Network("rtx")
    network.output("y", network.input("input", ("N", 3, 40, 40)) * 2.0)
    return read(network.definition)


def test_arrays(graph: Graph, tmp_path: Path) -> None:
    crowd = np.array([[0, 0], [0, 0], [0, 1]])
    np.savez(tmp_path / "a.npz", **ARRAYS, box_crowd=crowd)
    data = load_data(tmp_path / "a.npz", graph, batch=2)
    assert data.truth is not None
    (first, second), (third,) = data.truth
    np.testing.assert_array_equal(first.corners, [[1, 2, 11, 22]])
    assert (first.classes.tolist(), second.classes.tolist()) == ([7], [])
    assert (third.classes.tolist(), third.crowd.tolist()) == ([1, 2], [False, True])
    assert data.boxes == 2
    assert data.lacks_map == "the data has 2 boxes"
    plain = load_data(ARRAYS["input"], graph)
    assert plain.lacks_map == "the data has no boxes"
    assert plain.sha256 != data.sha256
    assert len(load_data(tmp_path / "a.npz", graph, limit=1).truth or ()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_classes": None}, "need two arrays"),
        ({"boxes": None}, "need two arrays"),
        ({"boxes": ARRAYS["boxes"][:2]}, "boxes: boxes as labels have another shape"),
        ({"boxes": ARRAYS["boxes"][..., :3]}, "another shape or type"),
        ({"boxes": ARRAYS["boxes"].astype(int)}, "expected: floats of shape"),
        ({"box_classes": ARRAYS["box_classes"] * 1.0}, "expected: integers of shape"),
        ({"box_classes": ARRAYS["box_classes"][:, :1]}, "another shape or type"),
        ({"box_crowd": np.zeros((3, 3), bool)}, "box_crowd"),
        ({"boxes": ARRAYS["boxes"][..., ::-1]}, r"boxes\[0\]: a box as label is none"),
        ({"boxes": ARRAYS["boxes"] * np.nan}, "a box as label is none"),
    ],
)
def test_arrays_that_are_no_boxes(
    change: dict[str, Any], message: str, graph: Graph, tmp_path: Path
) -> None:
    arrays = {name: array for name, array in {**ARRAYS, **change}.items() if array is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(trtnet.TrtnetError, match=message):
        load_data(tmp_path / "a.npz", graph)


def coco(folder: Path) -> dict[str, Any]:
    """Two pictures with a green box each, and the document that says where."""
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 5}]}
    (folder / "more").mkdir(parents=True)
    for number, (name, size, box) in enumerate(
        [("a.png", (100, 60), (20, 10, 50, 40)), ("more/b.png", (50, 90), (10, 30, 30, 40))]
    ):
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        x, y, width, height = box
        picture[y : y + height, x : x + width, 1] = 255
        Image.fromarray(picture).save(folder / name)
        document["images"].append({"id": number, "file_name": name, "width": size[0],
                                   "height": size[1], "license": 4})  # fmt: skip
        document["annotations"].append({"id": 9 - number, "image_id": number, "category_id": 5,
                                        "bbox": box, "area": width * height})  # fmt: skip
    return document


@pytest.mark.parametrize(
    "rules",
    [
        {"resize_size": [40, 40]},
        {"letterbox_size": 40},
        {"resize_size": 40, "crop_size": 40},
        {"letterbox_size": 40, "pad_position": "top-left"},
    ],
)
def test_annotations_move_with_their_images(
    rules: dict[str, Any], graph: Graph, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    document = coco(folder)
    (folder / "annotations.json").write_text(json.dumps(document))
    data = load_data(folder, graph, preprocessing=rules)
    assert data.truth is not None
    for path, truth in zip(["a.png", "more/b.png"], data.truth[0], strict=True):
        green = load_image(folder / path, rules)[0, 1] > 0.5
        rows, columns = np.nonzero(green)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(truth.corners, [seen], atol=1)
        assert truth.classes.tolist() == [5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "annotations.json"),
        (lambda d: d["annotations"][0].update(image_id=77), r"annotations\[0\] is of an image"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "bbox"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]), "a box as label is none"),
        (lambda d: d["annotations"][1].update(category_id="dog"), "category_id"),
        (lambda d: d["annotations"][1].update(category_id=-1), "category_id"),
        (lambda d: d["images"].pop(), "is of an image that is not listed"),
        (
            lambda d: (d["images"].pop(), d["annotations"].pop()),
            "the image more/b.png is not",
        ),
        (lambda d: d["images"][0].update(width=60, height=100), "has another size"),
        (lambda d: d["images"][1].update(id=0), "two of images have the same id"),
        (lambda d: d["images"].append({**d["images"][0], "id": 7}), "have the same file_name"),
    ],
)
def test_annotations_that_cannot_be_used(
    change: Any, message: str, graph: Graph, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    document = coco(folder)
    change(document)
    (folder / "annotations.json").write_text(json.dumps(document))
    with pytest.raises(trtnet.UsageError, match=message):
        load_data(folder, graph, preprocessing={"resize_size": [40, 40]})
    # Calibration needs no boxes, and does not read them.
    batches = dataset(folder, graph, preprocessing={"resize_size": [40, 40]})
    assert sum(len(batch["input"]) for batch in batches) == 2


def test_annotations_that_are_no_json(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    coco(folder)
    (folder / "annotations.json").write_text("{")
    with pytest.raises(trtnet.UsageError, match="boxes of images, in COCO's format"):
        load_data(folder, graph, preprocessing={"resize_size": [40, 40]})
