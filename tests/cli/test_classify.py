"""``trtnet classify``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.cli import zoo
from trtnet.cli.main import main

NAMES = ["red", "green", "blue"]
ABOUT = {"preprocessing": {"mean": [0.0] * 3, "std": [1.0] * 3, "resize_size": [8, 8]}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> str:
    """Scores are ten times the means of the channels."""
    net = trtnet.Network(backend="torch")
    net.output("logits", trtnet.mean(net.input("input", (1, 3, 8, 8)), (2, 3)) * 10.0)
    trtnet.build(net, sidecar={**ABOUT, "class_names": NAMES}).save("means.engine")
    return "means.engine"


def paint(path: str, *color: int) -> None:
    Image.new("RGB", (20, 16), color).save(path)


def classify(target: str, *arguments: str) -> int:
    return main(["classify", target, *arguments, "--device", "cpu"])


def answers(text: str) -> list[tuple[float, int, str]]:
    found = re.findall(r"(\S+)% +(\d+)  (.+)$", text, re.MULTILINE)
    return [(float(p), int(i), name) for p, i, name in found]


def test_an_engine(engine: str, capsys: pytest.CaptureFixture) -> None:
    paint("a.png", 51, 255, 102)
    assert classify(engine, "--image", "a.png", "--json", "r.json") == 0
    text = capsys.readouterr().out
    assert re.search(r"^a\.png +20 x 16 +\d+\.\d ms +\d+\.\d\d% +1  green$", text, re.MULTILINE)
    odds = np.exp([2.0, 10.0, 4.0])
    wanted = odds / odds.sum()
    assert answers(text) == [(round(100 * wanted[i], 2), i, NAMES[i]) for i in (1, 2, 0)]
    (image,) = json.loads(Path("r.json").read_text())["images"]
    assert [c["name"] for c in image["classes"]] == ["green", "blue", "red"]
    assert [c["probability"] for c in image["classes"]] == pytest.approx(wanted[[1, 2, 0]])


def test_top(engine: str, capsys: pytest.CaptureFixture) -> None:
    paint("a.png", 0, 0, 255)
    assert classify(engine, "--image", "a.png", "--top", "1") == 0
    assert [name for _, _, name in answers(capsys.readouterr().out)] == ["blue"]


def test_a_folder_with_a_bad_file(engine: str, capsys: pytest.CaptureFixture) -> None:
    Path("in").mkdir()
    paint("in/a.png", 255, 0, 0)
    Path("in/b.jpg").write_text("only words")
    paint("in/c.png", 0, 0, 255)
    assert classify(engine, "--folder", "in", "--top", "1") == 1
    captured = capsys.readouterr()
    assert [name for _, _, name in answers(captured.out)] == ["red", "blue"]
    assert "error: in/b.jpg cannot be read as an image" in captured.err
    assert "1 of 3 images failed" in captured.err


def test_shipped_lenet_reads_digits(capsys: pytest.CaptureFixture) -> None:
    """Images as scikit-learn has them, 8 x 8: they are enlarged as the weights say."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    flags = []
    for i in range(20):
        Image.fromarray((data.images[i] * 255 / 16).astype(np.uint8)).save(f"{i}.png")
        flags += ["--image", f"{i}.png"]
    assert classify("lenet5", *flags, "--top", "1") == 0
    text = capsys.readouterr().out
    assert "random" not in text
    found = [int(name) for _, _, name in answers(text)]
    assert np.mean(found == data.target[:20]) >= 0.95


def test_shipped_resnet20_from_an_engine_file(capsys: pytest.CaptureFixture) -> None:
    data = pytest.importorskip("sklearn.datasets").load_digits()
    Image.fromarray((data.images[0] * 255 / 16).astype(np.uint8)).save("digit.png")
    flags = ["--backend", "torch", "--saveEngine", "digits.engine", "--skip-verify"]
    assert zoo.main(["resnet20_digits", *flags]) == 0
    capsys.readouterr()
    assert classify("digits.engine", "--image", "digit.png") == 0
    text = capsys.readouterr().out
    assert "weights   DISTORTED_DIGITS_V1" in text
    assert answers(text)[0][2] == str(data.target[0])


def test_random_weights_say_so_and_names_are_torchvisions(capsys: pytest.CaptureFixture) -> None:
    """The probabilities are those of torchvision's model with the same weights."""
    import torch
    from torchvision import models

    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    Image.fromarray(pixels).save("cat.png")
    assert classify("squeezenet1_1", "--image", "cat.png") == 0
    text = capsys.readouterr().out
    assert "weights   random (seed 0)\n" in text
    assert "these are random: the network has learned nothing" in text

    about = models.get_model_weights("squeezenet1_1").DEFAULT
    model = models.squeezenet1_1().eval()
    state = trtnet.weights.resolve("squeezenet1_1", "random")
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    with torch.no_grad():
        scores = model(about.transforms()(Image.fromarray(pixels))[None]).double().softmax(1)[0]
    wanted = scores.argsort(descending=True)[:5].tolist()
    assert [i for _, i, _ in answers(text)] == wanted
    assert [name for _, _, name in answers(text)] == [about.meta["categories"][i] for i in wanted]
    for probability, i, _ in answers(text):
        assert probability == pytest.approx(100 * float(scores[i]), abs=0.006)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["means.engine"], "--image FILE, or --folder DIR"),
        (["means.engine", "--image", "a.png", "--top", "0"], "--top"),
        (["map.engine", "--image", "a.png"], "gives no scores of classes"),
        (["unet", "--image", "a.png"], "for segmentation, not for classification"),
        (["lenet5", "--weights", "random", "--image", "a.png"], "nothing says how"),
        (
            ["lenet5", "--weights", "DIGITS_V2", "--image", "a.png"],
            "lenet5: no weights called 'DIGITS_V2'\n  expected: DIGITS_V1, random, or the path",
        ),
        (["lenet5", "--weights", "DIGITS_V2", "--image", "a.png"], "did you mean DIGITS_V1?"),
        (
            ["lenet5:int8", "--image", "a.png"],
            "lenet5 in int8 needs ranges, which calibration finds\n",
        ),
        (
            ["lenet5:int8", "--image", "a.png"],
            "fix: trtnet zoo lenet5 --precision int8 --calib-data DIR --saveEngine FILE, and name",
        ),
    ],
)
def test_bad_usage(
    engine: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    paint("a.png", 1, 2, 3)
    net = trtnet.Network(backend="torch")
    net.output("out", net.input("input", (1, 3, 8, 8)) * 2.0)
    trtnet.build(net, sidecar=ABOUT).save("map.engine")
    assert classify(*arguments) == 2
    assert message in capsys.readouterr().err
