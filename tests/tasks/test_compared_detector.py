"""ComparedDetector: boxes that can be computed by hand, and PyTorch's run of a real detector."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import trtnet
from trtnet import zoo
from trtnet.errors import UsageError
from trtnet.imaging import prepare
from trtnet.pipeline import Recipe, run
from trtnet.tasks import ComparedDetector
from trtnet.weights import random_init

DATA = Path(__file__).parents[1] / "data" / "detection"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
LETTERBOX = {"letterbox_size": [64, 64], "pad_color": 0, "interpolation": "nearest"}
SQUARE = {"letterbox_size": 416}
HERE: dict[str, Any] = {"device": "cpu", "preprocess": SQUARE}
RED, BLUE = (160.0, 80.0, 240.0, 160.0), (560.0, 240.0, 640.0, 320.0)


def picture() -> np.ndarray:
    """640 by 320 pixels, ten for each of the input: a red square, and one half blue."""
    pixels = np.zeros((320, 640, 3), np.uint8)
    pixels[80:160, 160:240, 0] = 255
    pixels[280:320, 560:640, 2] = 255
    return pixels


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the detector whose twin is off by known amounts."""
    for name in ("cells.py", "apart.py"):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return "apart.py:make"


def compared(model: Any, threshold: float = 0.3, **options: Any) -> Any:
    about = {"preprocess": LETTERBOX, "backend": "torch", "device": "cpu"}
    with ComparedDetector(model, score_threshold=threshold, **about, **options) as detect:
        return detect(picture())


def test_boxes_by_hand(apart: str) -> None:
    """A shift of 0.2 pixels of 8 leaves 7.8 of 8.2; one of 4 is cut at the image's edge."""
    result = compared(apart)
    red, blue, lost = result.compared
    assert (red.status, red.index, red.name) == ("matched", 0, "class 0")
    assert (red.engine.score, red.torch.score) == (1.0, 1 - 1 / 16)
    assert red.engine.box == RED
    np.testing.assert_allclose(red.torch.box, (162, 80, 242, 160), rtol=1e-6)
    assert red.iou == pytest.approx(7.8 / 8.2, rel=1e-6)
    assert red.score_difference == 1 / 16
    assert (blue.status, blue.index, blue.torch, blue.iou) == ("engine only", 2, None, None)
    assert (blue.engine.score, blue.engine.box) == (0.5, BLUE)
    assert (lost.status, lost.index, lost.engine) == ("PyTorch only", 2, None)
    assert (lost.torch.score, lost.torch.box) == (0.5 - 1 / 16, (600.0, 240.0, 640.0, 320.0))
    assert lost.score_difference is None
    assert [one.box for one in result.objects] == [RED, BLUE]  # the engine's
    match = result.match
    assert (match.found, match.wanted, match.matched, match.score) == (2, 2, 1, 1 / 16)


def test_masks_and_keypoints_are_those_of_the_engine(apart: str) -> None:
    """Boxes alone are compared and drawn."""
    result = compared("apart.py:masks")
    assert result.compared == compared(apart).compared
    assert 0.99 * 80 * 80 < result.mask(0).sum() <= 80 * 80  # its corners are rounded off
    assert result.keypoints.shape == (2, 2, 3)
    plain = np.asarray(compared(apart).compared_picture())
    np.testing.assert_array_equal(np.asarray(result.compared_picture()), plain)


@pytest.mark.parametrize(
    ("threshold", "statuses"),
    [
        (0.0, ["matched", "engine only", "PyTorch only"]),
        (0.47, ["matched", "engine only"]),
        (0.97, ["matched"]),  # PyTorch's score of it is lower; it is there all the same
    ],
)
def test_the_threshold_parts_no_pair(apart: str, threshold: float, statuses: list[str]) -> None:
    found = compared(apart, threshold).compared
    assert [one.status for one in found] == statuses
    assert found[0].torch.score == 1 - 1 / 16


def test_the_picture(apart: str) -> None:
    """Solid lines of the engine, dashes of PyTorch over them, a legend below."""
    image = compared(apart).compared_picture()
    pixels = np.asarray(image)
    assert image.width == 640
    assert image.height > 320
    ours, theirs, white = (240, 140, 0), (40, 110, 255), (255, 255, 255)
    assert {tuple(pixel) for pixel in pixels[100:150, 160]} == {ours}
    right = {tuple(pixel) for pixel in pixels[100:150, 240:244].reshape(-1, 3)}
    assert {theirs, white} <= right  # dashes, and what is in their gaps
    assert {ours, theirs} <= {tuple(pixel) for pixel in pixels[80, 165:235]}  # one line of both
    assert {tuple(pixel) for pixel in pixels[260:310, 600]} == {theirs, white}
    assert (pixels[-1] == 255).all()


def test_a_model_without_a_twin_is_not_built(apart: str) -> None:
    with pytest.raises(UsageError, match="no counterpart in PyTorch") as caught:
        compared("cells.py:make", observer=_NoBuild())
    assert "twin" in str(caught.value.fix)


class _NoBuild(trtnet.pipeline.Silent):
    def step(self, name: str) -> Any:
        assert name != "build"
        return super().step(name)


def test_pytorch_s_boxes_are_those_of_its_own_run() -> None:
    """The shipped weights in the twin, the letterbox undone by hand."""
    file = IMAGES / "shapes.png"
    entry = zoo.get_entry("yolox_shapes")
    twin = entry.torch_model()
    twin.load_state_dict(load_file(entry.weights_file("SHAPES_V1")))
    rules = zoo.card("yolox_shapes").preprocessing
    with Image.open(file) as opened, torch.no_grad():
        image = opened.convert("RGB")
        found = twin(torch.from_numpy(prepare(image, rules)))
    count = int(found["num_dets"])
    scale = min(1.0, 416 / max(image.size))  # not enlarged, in the upper left corner
    boxes = (found["det_boxes"][0, :count] / scale).double().numpy()
    boxes = boxes.clip(0, [*image.size, *image.size])
    wanted = found["det_scores"][0, :count].numpy() >= 0.3
    with ComparedDetector("yolox_shapes", score_threshold=0.3, backend="torch", device="cpu") as by:
        result = by(file)
    assert {one.status for one in result.compared} == {"matched"}
    assert len(result.compared) == wanted.sum() >= 20
    theirs = sorted((one.torch.box for one in result.compared), reverse=True)
    np.testing.assert_allclose(theirs, sorted(map(tuple, boxes[wanted]), reverse=True), atol=1e-3)
    assert result.match.score < 1e-5


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of random weights with another number of classes."""
    path = tmp_path_factory.mktemp("engines") / "nano.engine"
    run(Recipe("yolox_shapes", weights="random", seed=3, arguments={"num_classes": 2},
               backend="torch", engine=path, verify=False))  # fmt: skip
    return path


def test_an_engine_s_weights_are_those_that_it_was_built_with(engine: Path) -> None:
    with ComparedDetector(engine, torch_seed=3, **HERE) as detect:
        result = detect(IMAGES / "shapes_few.png")
        held = detect.counterpart.module.state_dict()
    made = random_init.random_state(
        zoo.get_entry("yolox_shapes").torch_model, 3, input_shape=(3, 416, 416), num_classes=2
    )
    assert all(np.array_equal(held[name].numpy(), made[name]) for name in made)
    assert result.match.matched == result.match.found == result.match.wanted


def test_other_weights_than_the_engine_s_are_refused(engine: Path, tmp_path: Path) -> None:
    for options in ({}, {"torch_weights": "SHAPES_V1"}):
        with pytest.raises(trtnet.TrtnetError, match=r"other weights|classes"):
            ComparedDetector(engine, **HERE, **options)


@pytest.mark.parametrize("options", [{"torch_weights": "SHAPES_V1"}, {"torch_seed": 3}])
def test_what_an_engine_was_built_with_is_not_said_of_a_model(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="torch_weights and torch_seed"):
        ComparedDetector("yolox_shapes", backend="torch", device="cpu", **options)


@pytest.mark.parametrize("name", ["code.py:make", "nothing", None])
def test_a_sidecar_names_no_code(engine: Path, tmp_path: Path, name: str | None,
                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Only models of trtnet are made of its text."""
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text("open('ran', 'w')\ndef make(): ...\n")
    Path("a.engine").write_bytes(engine.read_bytes())
    about = json.loads(Path(f"{engine}.json").read_text())
    Path("a.engine.json").write_text(json.dumps({**about, "model": name}))
    with pytest.raises(UsageError, match="which model of trtnet"):
        ComparedDetector("a.engine", **HERE)
    assert not Path("ran").exists()


def test_one_that_is_a_plan_or_a_session(engine: Path) -> None:
    plan = trtnet.Plan.load(engine)
    with trtnet.Session(plan, device="cpu") as session:
        results = [
            ComparedDetector(opened, torch_seed=3, preprocess=SQUARE)(IMAGES / "shapes_few.png")
            for opened in (plan, session)
        ]
    first, second = (dataclasses.astuple(one.match) for one in results)
    assert first == second
