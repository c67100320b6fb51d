"""``trtnet detect`` and ``classify`` with checkpoints that pickle a whole YOLOv8 for segmentation,
poses or classification, whose package is gone, against the PyTorch model of the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from yolo_networks import (
    ARGUMENTS,
    COUNT,
    picture,
    prepared,
    run_with_package,
    seeded_classifier,
    state_for,
)

import trtnet
from trtnet import zoo
from trtnet.cli.main import main
from trtnet.weights.torch_import import without_memory
from trtnet.zoo.detection.yolo import torch_blocks, torch_tasks, torch_yolo
from trtnet.zoo.settling import settle

EDGE, LEAST = 640, 0.1
PICTURE = picture(EDGE)
INPUT = prepared(PICTURE)
NAMES = [f"thing {number}" for number in range(ARGUMENTS["num_classes"])]
MAKE = """
import json, sys
import torch
from gone_yolo import torch_tasks

kind, arguments, names = sys.argv[1], *map(json.loads, sys.argv[2:])
model = getattr(torch_tasks, kind)(*arguments.pop("of"), num_classes=len(names), **arguments)
model.load_state_dict(torch.load("state.pt"))
model.names = dict(enumerate(names))
torch.save({"epoch": -1, "model": model.half(), "ema": None}, "best.pt")
"""
OWN = """
import trtnet

def make(num_classes=6):
    return trtnet.zoo.get_model("yolov8n_pose", kpt_shape=(12, 2), num_classes=num_classes)

make.input_shape, make.task = (3, 640, 640), "detection"
"""
Run = Callable[..., Any]


def save(kind: str, state: dict[str, torch.Tensor], **arguments: Any) -> None:
    """``best.pt`` as a training script saves it; its package is deleted."""
    torch.save(state, "state.pt")
    given = [kind, json.dumps(arguments), json.dumps(NAMES)]
    run_with_package((torch_yolo, torch_blocks, torch_tasks), MAKE, Path(), *given)


def of_pytorch(name: str, state: dict[str, torch.Tensor], **form: Any) -> dict[str, np.ndarray]:
    """What the model in float32 finds, of the weights in float16."""
    twin = zoo.get_entry(name).torch_model(**ARGUMENTS, **form).eval()
    twin.load_state_dict({key: value.half() for key, value in state.items()})
    with torch.no_grad():
        found = twin(torch.from_numpy(INPUT))
    good = found["det_scores"][0] >= LEAST
    kept = {key: value[0] for key, value in found.items()}
    return {key: (value[good] if len(value) == len(good) else value).numpy()
            for key, value in kept.items()}  # fmt: skip


@pytest.fixture
def detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command with a checkpoint; returns what it found, and what PyTorch finds, in one
    order."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, kind: str, **form: Any) -> tuple[list[Any], dict[str, np.ndarray], str]:
        state = state_for(INPUT, name, form)
        save(kind, state, of=["v8", "n"], **form)
        Image.fromarray(PICTURE).save("image.png")
        line = ["detect", name, "--weights", "best.pt", "--image", "image.png", "-o", "out.png"]
        more = ["--json", "found.json", "--score-threshold", str(LEAST), "--device", "cpu"]
        assert main([*line, *more]) == 0
        (image,) = json.loads(Path("found.json").read_text())["images"]
        found, expected = image["detections"], of_pytorch(name, state, **form)
        assert len(found) == len(expected["det_scores"]) >= COUNT
        assert [one["name"] for one in found] == [NAMES[one["class"]] for one in found]
        # Of nearly equal scores any may come first: each box is looked for by its place.
        corners = np.array([one["box"] for one in found])
        apart = np.abs(corners[:, None] - expected["det_boxes"].clip(0, EDGE)).max(2)
        kinds = np.array([one["class"] for one in found])
        apart[kinds[:, None] != expected["det_classes"]] = np.inf
        nearest = apart.argmin(1)
        assert sorted(nearest) == [*range(len(found))]
        assert apart.min(1).max() < 1e-2
        assert np.asarray(Image.open("out.png")).shape == (EDGE, EDGE, 3)
        ordered = {key: value[nearest] if key.startswith("det_") else value
                   for key, value in expected.items()}  # fmt: skip
        return found, ordered, "".join(capsys.readouterr())

    return run


def masks_of(expected: dict[str, np.ndarray]) -> np.ndarray:
    """(n, EDGE, EDGE) bool, by PyTorch: the whole image's masks, and nothing outside of boxes."""
    pair = (torch.from_numpy(expected[name]) for name in ("det_coefficients", "prototypes"))
    chances = torch.einsum("np,phw->nhw", *pair).sigmoid()
    large = torch.nn.functional.interpolate(chances[None], scale_factor=4, mode="bilinear")[0]
    centres = np.arange(EDGE) + 0.5
    x1, y1, x2, y2 = expected["det_boxes"].T[:, :, None]
    across = (centres >= x1) & (centres < x2)
    down = (centres >= y1) & (centres < y2)
    return np.asarray((large.numpy() > 0.5) & down[:, :, None] & across[:, None])


def test_a_whole_model_becomes_masks(detected: Run) -> None:
    coding = pytest.importorskip("pycocotools.mask")
    found, expected, told = detected("yolov8n_seg", "YoloSegment")
    assert f"num_classes={len(NAMES)}, as names and shapes of the weights tell" in told
    wanted = masks_of(expected)
    masks = [coding.decode(coding.frPyObjects(one["mask"], EDGE, EDGE)) for one in found]
    assert np.mean(np.array(masks, bool) != wanted) < 1e-5
    assert (wanted.any((1, 2)) & ~wanted.all((1, 2))).all()
    changed = np.abs(np.asarray(Image.open("out.png")).astype(int) - PICTURE).max(-1)
    assert np.mean(changed[wanted.any(0)] > 5) > 0.9


@pytest.mark.parametrize("kpt_shape", [(17, 3), (7, 2)])
def test_a_whole_model_becomes_poses(detected: Run, kpt_shape: tuple[int, int]) -> None:
    """The numbers of keypoints come from the file; those without a probability have 1."""
    found, expected, told = detected("yolov8n_pose", "YoloPose", kpt_shape=kpt_shape)
    stated = f"kpt_shape={kpt_shape}, as names and shapes of the weights tell"
    assert (stated in told) == (kpt_shape != (17, 3))
    points = np.array([one["keypoints"] for one in found])
    assert points.shape[1:] == (kpt_shape[0], 3)
    np.testing.assert_allclose(points, expected["det_points"], atol=2e-2)
    if kpt_shape[1] == 2:
        assert (points[..., 2] == 1).all()


@pytest.mark.parametrize(
    ("kpt_shape", "given", "settled"),
    [
        ((17, 2), {}, {"kpt_shape": (17, 2), "num_classes": 3}),
        ((5, 3), {}, {"kpt_shape": (5, 3), "num_classes": 3}),
        ((12, 2), {"kpt_shape": (12, 2)}, {"kpt_shape": (12, 2), "num_classes": 3}),
        ((12, 2), {}, None),
    ],
)
def test_the_keypoints_are_those_of_the_checkpoint(
    kpt_shape: Any, given: dict[str, Any], settled: dict[str, Any] | None
) -> None:
    """Where two kinds fit nothing is guessed."""
    entry = zoo.get_entry("yolov8n_pose")
    with without_memory():
        shapes = entry.torch_model(num_classes=3, kpt_shape=kpt_shape).state_dict()
    zeros = {key: np.zeros(tuple(value.shape), np.float32) for key, value in shapes.items()}
    weights = trtnet.weights.Weights(zeros)
    if settled is None:
        with pytest.raises(trtnet.WeightsError, match=r"kpt_shape=\(12, 2\) or kpt_shape=\(8, 3\)"):
            settle(entry, entry.build(), weights, given, {*given})
        return
    found = settle(entry, entry.build(**given), weights, given, {*given})
    assert found.arguments == settled
    found.module.load_state_dict(found.weights)


def test_a_product_that_fits_two_kinds_of_keypoints_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """24 numbers are 12 keypoints of 2, or 8 of 3: nothing is drawn that may be wrong."""
    monkeypatch.chdir(tmp_path)
    form = {"num_classes": len(NAMES), "kpt_shape": (12, 2)}
    save("YoloPose", zoo.get_entry("yolov8n_pose").torch_model(**form).state_dict(),
         of=["v8", "n"], kpt_shape=(12, 2))  # fmt: skip
    Image.fromarray(PICTURE).save("image.png")
    flags = ["--weights", "best.pt", "--image", "image.png", "-o", "o.png", "--device", "cpu"]
    assert main(["detect", "yolov8n_pose", *flags]) == 1
    error = capsys.readouterr().err
    assert "expected: kpt_shape=(12, 2) or kpt_shape=(8, 3)" in error
    assert "def make(): return trtnet.zoo.get_model('yolov8n_pose', kpt_shape=(12, 2)" in error
    assert not Path("o.png").exists()
    Path("own.py").write_text(OWN)
    assert main(["detect", "own.py:make", *flags, "--preprocess", "yolo"]) == 0
    assert Path("o.png").exists()


def test_a_whole_model_becomes_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    twin = seeded_classifier("yolov8n_cls", len(NAMES))
    twin.model[-1].linear.weight.data *= 20
    state = twin.half().state_dict()
    save("YoloClassify", state, of=["n"])
    Image.fromarray(PICTURE[:224, :224]).save("image.png")
    line = ["classify", "yolov8n_cls", "--weights", "best.pt", "--image", "image.png"]
    assert main([*line, "--json", "found.json", "--device", "cpu", "--top", "6"]) == 0
    (image,) = json.loads(Path("found.json").read_text())["images"]
    with torch.no_grad():
        x = torch.from_numpy(INPUT[..., :224, :224].copy())
        chances = twin.float()(x).softmax(1)[0].numpy()
    order = np.argsort(-chances)
    assert chances[order[0]] - chances[order[1]] > 0.01
    assert [one["name"] for one in image["classes"]] == [NAMES[place] for place in order]
    found = [one["probability"] for one in image["classes"]]
    np.testing.assert_allclose(found, chances[order], atol=1e-5)
