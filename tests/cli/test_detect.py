"""``trtnet detect``."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.cli.detected_boxes import image_ids
from trtnet.cli.main import main
from trtnet.imaging import palette

DATA = Path(__file__).parents[1] / "data" / "detection"
NAMES = ["red", "green", "blue"]
LETTERBOX = {"letterbox_size": [64, 64], "pad_color": 0, "interpolation": "nearest"}
RED, BLUE = [160.0, 80.0, 240.0, 160.0], [560.0, 240.0, 640.0, 320.0]
BLUE_SCORE = 0.5


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A detector, and pictures of 640 by 320 pixels."""
    monkeypatch.chdir(tmp_path)
    Path("cells.py").write_bytes((DATA / "cells.py").read_bytes())
    Path("how.toml").write_text(
        '[preprocess]\nletterbox_size = 64\npad_color = 0\ninterpolation = "nearest"\n'
    )
    for name in ("a.png", "in/a.png", "in/below/b.png"):
        picture(name)
    Path("in/none.png").parent.mkdir(exist_ok=True)
    Image.new("RGB", (640, 320)).save("in/none.png")
    return tmp_path


def picture(path: str) -> None:
    """A red square, and one whose lower half is blue: cells of the network's input, tenfold."""
    pixels = np.zeros((320, 640, 3), np.uint8)
    pixels[80:160, 160:240, 0] = 255
    pixels[280:320, 560:640, 2] = 255
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def engine() -> str:
    build().save("cells.engine")
    return "cells.engine"


def build(output_format: str = "efficientnms", **about: Any) -> trtnet.Plan:
    net = trtnet.Network(backend="torch")
    module = trtnet.zoo.get_model("cells.py:make", output_format=output_format)
    for name, value in module(net.input("input", (1, 3, 64, 64))).items():
        net.output(name, value)
    return trtnet.build(net, sidecar={"preprocessing": LETTERBOX, "class_names": NAMES, **about})


def detect(target: str, *arguments: str) -> int:
    return main(["detect", target, *arguments, "--device", "cpu"])


def report(path: str = "r.json") -> Any:
    return json.loads(Path(path).read_text())


FOUND = [
    {"class": 0, "name": "red", "score": 1.0, "box": RED},
    {"class": 2, "name": "blue", "score": BLUE_SCORE, "box": BLUE},
]


@pytest.mark.parametrize("output_format", ["efficientnms", "rows6"])
def test_an_engine(output_format: str, capsys: pytest.CaptureFixture) -> None:
    build(output_format).save("cells.engine")
    assert detect("cells.engine", "--image", "a.png", "-o", "out.png", "--json", "r.json") == 0
    text = capsys.readouterr().out
    assert "scores    from 0.3 (--score-threshold)\n" in text
    assert re.search(r"^a\.png +640 x 320 +\d+\.\d ms +1\.00 +0  red +160\.0, 80\.0, 240\.0, 160",
                     text, re.MULTILINE)  # fmt: skip
    assert re.search(r"^ +0\.50 +2  blue +560\.0, 240\.0, 640\.0, 320\.0$", text, re.MULTILINE)
    assert "written   out.png\n" in text
    (image,) = report()["images"]
    assert image["detections"] == FOUND
    assert (image["width"], image["height"], image["written"]) == (640, 320, "out.png")


def test_the_picture(engine: str) -> None:
    for name in ("voc", "tutorial"):
        assert detect(engine, "--image", "a.png", "-o", "out.png", "--palette", name) == 0
        colors = palette(name, 4).tolist()
        with Image.open("out.png") as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (640, 320))
            pixels = np.asarray(image)
        assert pixels[120, 160].tolist() == pixels[120, 239].tolist() == colors[1]
        assert pixels[280, 560].tolist() == pixels[280, 639].tolist() == colors[3]
        assert pixels[120, 200].tolist() == [255, 0, 0]
        assert pixels[300, 50].tolist() == [0, 0, 0]
        label = pixels[66:80, 160:240].reshape(-1, 3)
        assert (label == colors[1]).all(1).sum() > 200


def test_a_model_is_built(capsys: pytest.CaptureFixture) -> None:
    flags = ["--preprocess", "how.toml", "--json", "r.json", "-o", "o.png"]
    assert detect("cells.py:make", "--image", "a.png", *flags) == 0
    found = report()["images"][0]["detections"]
    assert [(one["name"], one["box"]) for one in found] == [("class 0", RED), ("class 2", BLUE)]
    assert "build ..." in capsys.readouterr().out


def test_as_many_as_the_network_gives(engine: str, capsys: pytest.CaptureFixture) -> None:
    """It has ten places; the picture is red all over, 64 cells above the threshold."""
    Image.new("RGB", (640, 640), "red").save("red.png")
    flags = ["-o", "o.png", "--json", "r.json"]
    assert detect(engine, "--image", "red.png", *flags) == 0
    note = "the network gives at most 10: there may be more"
    assert note in capsys.readouterr().out
    assert report()["images"][0]["limit"] == 10
    assert detect(engine, "--image", "a.png", *flags) == 0
    assert note not in capsys.readouterr().out
    assert report()["images"][0]["limit"] is None


def test_the_threshold(engine: str, capsys: pytest.CaptureFixture) -> None:
    for text, count in (("0", 2), ("0.5", 2), ("0.51", 1), ("1", 1)):
        flags = ["-o", "o.png", "--json", "r.json", "--score-threshold", text]
        assert detect(engine, "--image", "a.png", *flags) == 0
        assert len(report()["images"][0]["detections"]) == count
    for wrong in ("-0.1", "1.5", "nan", "much"):
        flags = ["-o", "no.png", f"--score-threshold={wrong}"]
        assert detect(engine, "--image", "a.png", *flags) == 2
    assert "--score-threshold: 1.5 is not between 0 and 1" in capsys.readouterr().err
    assert not Path("no.png").exists()


def test_a_folder_with_an_image_without_detections(
    engine: str, capsys: pytest.CaptureFixture
) -> None:
    """It has zero rows, a picture, and a line that says so."""
    flags = ["--folder", "in", "-o", "out", "--json", "r.json", "--csv", "t.csv"]
    assert detect(engine, *flags) == 0
    assert re.search(r"^in/none\.png .* nothing found$", capsys.readouterr().out, re.MULTILINE)
    images = {image["file"]: image["detections"] for image in report()["images"]}
    assert images == {"in/a.png": FOUND, "in/below/b.png": FOUND, "in/none.png": []}
    with Path("t.csv").open() as file:
        first, second, *_, last = csv.reader(file.read().splitlines()[1:])
    assert first == ["in/a.png", "0", "red", "1", "160", "80", "240", "160", "out/a.png", ""]
    assert second[:4] == ["in/a.png", "2", "blue", "0.5"]
    assert last == ["in/none.png", *[""] * 7, "out/none.png", ""]
    assert sorted(map(str, Path("out").rglob("*.png"))) == [
        *("out/a.png", "out/below/b.png", "out/none.png")
    ]


def test_a_folder_with_bad_files(engine: str, capsys: pytest.CaptureFixture) -> None:
    Path("in/d.jpg").write_text("only words")
    Path("in/c.png").write_bytes(Path("a.png").read_bytes()[:100])
    flags = ["--folder", "in", "-o", "out", "--json", "r.json", "--coco-json", "c.json"]
    assert detect(engine, *flags) == 1
    captured = capsys.readouterr()
    assert "error: in/d.jpg cannot be read as an image" in captured.err
    assert "2 of 5 images failed" in captured.err
    assert "written   3 pictures in out\nwritten   c.json\n" in captured.out
    assert [failed["file"] for failed in report()["failed"]] == ["in/c.png", "in/d.jpg"]
    assert len(report("c.json")) == 2 + 2


def test_one_bad_image(engine: str, capsys: pytest.CaptureFixture) -> None:
    Path("words.jpg").write_text("only words")
    assert detect(engine, "--image", "words.jpg") == 1
    assert "words.jpg cannot be read as an image" in capsys.readouterr().err
    assert not Path("detected").exists()


def test_cocos_format(engine: str, capsys: pytest.CaptureFixture) -> None:
    """All that the network gives, above its own threshold of 0.25."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:8, :8, 1] = 70
    Path("val").mkdir()
    for name in ("000000000139", "cat"):
        Image.fromarray(pixels).save(f"val/{name}.png")
    assert detect(engine, "--folder", "val", "-o", "out", "--coco-json", "c.json") == 0
    assert "scores    from 0 (--score-threshold)" in capsys.readouterr().out
    found = report("c.json")
    assert found == [
        {"image_id": name, "category_id": 1, "bbox": [0, 0, 8, 8], "score": pytest.approx(70 / 255)}
        for name in (139, "cat")
    ]
    flags = ["--folder", "val", "-o", "out", "--coco-json", "c.json", "--score-threshold", "0.3"]
    assert detect(engine, *flags) == 0
    assert report("c.json") == []


def test_images_of_one_number() -> None:
    with pytest.raises(trtnet.UsageError, match=r"x/7\.png and y/007\.jpg would both be image 7"):
        image_ids([Path("x/7.png"), Path("y/007.jpg")])
    assert list(image_ids([Path("x/7.png"), Path("x/7a.png"), Path("٣.png")]).values()) == [
        *(7, "7a", "٣")
    ]


def test_the_output_format_of_an_engine_is_recorded(capsys: pytest.CaptureFixture) -> None:
    for name in ("rows6", "efficientnms", "raw"):
        flags = ["--output-format", name, "--backend", "torch", "--saveEngine", f"{name}.engine",
                 "--json", "r.json", "--preprocess", "how.toml"]  # fmt: skip
        assert main(["zoo", "cells.py:make", *flags]) == 0
        sidecar = report(f"{name}.engine.json")
        assert report()["output_format"] == sidecar["output_format"] == name
        assert sidecar["made_by"]["arguments"] == {"output_format": name}
        status = detect(f"{name}.engine", "--image", "a.png", "-o", f"{name}.png")
        assert (status, Path(f"{name}.png").exists()) == (
            (2, False) if name == "raw" else (0, True)
        )
    error = capsys.readouterr().err
    assert "gives boxes before suppression" in error
    assert "--output-format efficientnms" in error
    flags = ["--backend", "torch", "--skip-verify", "--json", "r.json"]
    assert main(["zoo", "lenet5", *flags]) == 0
    assert report()["output_format"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo", "lenet5", "--output-format", "raw"], "lenet5 does not take --output-format"),
        (["zoo", "cells.py:make", "--output-format", "row6"], "no such output format"),
        (["detect", "cells.engine"], "name images"),
        (["detect", "unet", "--image", "a.png"], "for segmentation, not for detection"),
        (["detect", "scores.engine", "--image", "a.png"], "gives no detections"),
        (["detect", "cells.engine", "--image", "a.png", "-o", "o.jpg"], "is no .png file"),
        (["detect", "cells.engine", "--folder", ".", "--coco-json", "c.json"],
         "would both be image a"),
        (["detect", "cells.engine", "--image", "a.png", "--coco-json", "a.png"],
         "an image that --image reads"),
        (["detect", "cells.engine", "--image", "a.png", "--coco-json", "no/c.json"],
         "cannot be written"),
        (["segment", "cells.engine", "--image", "a.png"], "gives no classes of pixels"),
    ],
)  # fmt: skip
def test_bad_usage(
    engine: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    net = trtnet.Network(backend="torch")
    net.output("scores", trtnet.mean(net.input("input", (1, 3, 8, 8)), (2, 3)))
    trtnet.build(net, sidecar={"preprocessing": LETTERBOX}).save("scores.engine")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert before == {
        path: path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
