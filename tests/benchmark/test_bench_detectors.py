"""``tools/bench_detectors.py``: its peers find what the models that they are made of find, and a
run on a CPU gives rows and a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import bench_detector_peers as peers
import bench_detectors
import bench_zoo
import pytest
import torch
from bench_detector_models import Task, engine, task_of
from bench_detector_networks import Predictions, Rules
from bench_detector_nms import (
    Candidates,
    candidates,
    in_fixed_places,
    in_lists,
    of_all_images,
    of_each_image,
)
from bench_detector_peers import Found, Peer, dense_replayed, share
from bench_detectors_page import page
from bench_zoo_page import read_rows
from torchvision.ops import nms

from trtnet.weights.random_init import build

SIZE = (128, 160)
SUPPRESSED = ["yolox_nano", "yolov8n", "yolo11n"]


def found(*rows: tuple[float, ...]) -> Found:
    """Of rows of corners, score and class."""
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return Found(values[:, :4], values[:, 4], values[:, 5])


def test_a_box_is_found_with_its_class_and_nearly_its_place() -> None:
    wanted = found((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 2))
    assert wanted.count_in(wanted, 0.9) == 2
    assert wanted.count_in(found((0, 0, 10, 9.5, 0.1, 1)), 0.9) == 1
    assert wanted.count_in(found((0, 0, 10, 8.5, 0.9, 1)), 0.9) == 0  # IoU 0.85
    assert wanted.count_in(found((0, 0, 10, 10, 0.9, 2)), 0.9) == 0
    assert wanted.count_in(found(), 0.9) == 0
    one = found((0, 0, 10, 10, 0.9, 1))
    assert share([wanted, one], [one, one, wanted], 0.9) == pytest.approx(2 / 3)
    assert share([found()], [wanted], 0.9) == 1


def test_boxes_without_an_area_are_not_compared() -> None:
    some = found((0, 0, 10, 0.5, 0.9, 1), (0, 0, 10, 10, 0.05, 1), (1, 1, 3, 3, 0.5, 1))
    assert some.above(0.1).scores.tolist() == [0.5]


def test_outputs_of_a_session() -> None:
    boxes = torch.arange(16.0).reshape(2, 2, 4)
    outputs = [torch.tensor([[1], [2]]), boxes, torch.tensor([[0.5, 0], [0.4, 0.3]]),
               torch.tensor([[3, 0], [1, 2]])]  # fmt: skip
    one, two = Found.of_outputs(outputs)
    assert (one.boxes.tolist(), one.scores.tolist(), one.classes.tolist()) == (
        [[0, 1, 2, 3]], [0.5], [3])  # fmt: skip
    assert (two.boxes.tolist(), two.classes.tolist()) == (boxes[1].tolist(), [1, 2])


@pytest.fixture
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replays are calls, in float32, and nothing is compiled; the sizes of the batches computed."""
    seen: list[int] = []

    def recorded(call: Any) -> tuple[Any, Any]:
        def launch() -> None:
            seen.append(1)
            _copy(call(), results)

        results = call()
        return launch, results

    monkeypatch.setattr(peers, "recorded", recorded)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    monkeypatch.setattr(torch.nn.Module, "half", lambda module: module)
    monkeypatch.setattr(torch.Tensor, "half", lambda tensor: tensor.clone())
    return seen


def _copy(source: Any, target: Any) -> None:
    if isinstance(source, torch.Tensor):
        target.copy_(source)
    else:
        pairs = zip(source, target, strict=True)
        if isinstance(source, dict):
            pairs = zip(source.values(), target.values(), strict=True)
        for a, b in pairs:
            _copy(a, b)


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn"])
def test_a_detector_with_a_replayed_network_is_the_same(
    name: str, without_a_gpu: list[int]
) -> None:
    key = "score_thresh" if name.startswith("retinanet") else "box_score_thresh"
    torch.manual_seed(0)
    model: Any = build(name, num_classes=4, min_size=64, **{key: 0.0}).eval()
    image, other = torch.rand(2, 3, 64, 96)
    prepared = model.transform([other])[0].tensors
    with torch.inference_mode():
        expected = model([image])
        replayed = Peer(dense_replayed(model, prepared), image)()  # recorded with other pixels
    assert without_a_gpu == [1]
    assert len(expected[0]["scores"]) >= 20
    for part, values in expected[0].items():
        torch.testing.assert_close(replayed[0][part], values, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


def drawn(name: str, engines: Path) -> Task:
    return task_of(name, 2, engines, SIZE)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", SUPPRESSED)
def test_a_network_says_what_the_counterpart_says(name: str, folded: bool, engines: Path) -> None:
    task = drawn(name, engines)
    task.model.output_format = "raw"
    with torch.inference_mode():
        expected = task.model(task.prepared)
        boxes, scores, classes = task.network(torch.float32, "cpu", folded)(task.prepared)
    best, kinds = expected["scores"].max(2)
    torch.testing.assert_close(boxes, expected["boxes"], rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(scores, best, rtol=1e-4, atol=1e-5)
    assert (classes == kinds).double().mean() > 0.999


@pytest.mark.parametrize("name", SUPPRESSED)
def test_all_ways_find_what_the_counterpart_finds(name: str, engines: Path) -> None:
    task = drawn(name, engines)
    with torch.inference_mode():
        expected = Found.of_outputs([*task.model(task.prepared).values()])
        given = candidates(task.network(torch.float32, "cpu", False)(task.prepared), task.rules)
        ways = [of_each_image(given, task.rules), of_all_images(given, task.rules)]
        ways += [in_lists(in_fixed_places(given, task.rules, count)) for count in (300, 10**6)]
    assert min(len(one.scores) for one in expected) >= 20
    for images in ways:
        for rows, theirs in zip(images, expected, strict=True):
            mine = Found.of_rows(rows)
            torch.testing.assert_close(mine.boxes, theirs.boxes, rtol=0, atol=2e-3)
            torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-4, atol=0)
            assert mine.classes.tolist() == theirs.classes.tolist()


def test_rtdetr_finds_what_the_counterpart_finds(engines: Path) -> None:
    pytest.importorskip("transformers")
    task = drawn("rtdetr_shapes", engines)
    with torch.inference_mode():
        expected = Found.of_outputs([*task.model(task.prepared).values()])
        boxes, scores, classes = task.network(torch.float32, "cpu")(task.prepared)
    assert sum(len(one.above(task.compared).scores) for one in expected) >= 50
    for index, one in enumerate(expected):
        torch.testing.assert_close(scores[index].double(), one.scores, rtol=1e-4, atol=1e-5)
        mine = Found(boxes[index].double(), scores[index].double(), classes[index])
        assert one.count_in(mine, 0.999) == len(one.scores)


def test_seeded_rtdetr_finds_the_same_with_weights_in_fp16(engines: Path) -> None:
    """Weights that amplify rounding, or give one score to all, would say nothing of a session."""
    pytest.importorskip("transformers")
    task = drawn("rtdetr_shapes", engines)
    with torch.inference_mode():
        exact = task.network(torch.float32, "cpu")(task.prepared)
        task.model.half().float()
        half = task.network(torch.float32, "cpu")(task.prepared.half().float())
    expected, found = (
        [Found(*(values.double() for values in one)) for one in zip(*each, strict=True)]
        for each in (exact, half)
    )
    expected = [one.above(task.compared) for one in expected]
    assert share(expected, found, 0.9) >= 0.95
    assert all(len(scores.mul(100).round().unique()) >= 20 for scores in exact.scores)


def overlapping(images: int, places: int, classes: int) -> tuple[Predictions, Rules]:
    """Clusters of boxes, of which many suppress each other."""
    random = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 6, (images, places, 2), generator=random) * 20
    corner = corner + 6 * torch.rand(images, places, 2, generator=random)
    boxes = torch.cat([corner, corner + 30], 2)
    scores = torch.rand(images, places, generator=random)
    kinds = torch.randint(0, classes, (images, places), generator=random)
    return Predictions(boxes, scores, kinds), Rules(classes, 0.3, 0.5, 80, 40)


def test_suppression_is_torchvisions_class_by_class() -> None:
    given, rules = overlapping(3, 200, 4)
    expected = []
    for boxes, scores, kinds in zip(*given, strict=True):
        best = [index for index in scores.argsort(descending=True)[:80] if scores[index] > 0.3]
        kept: list[int] = []
        for kind in range(4):
            own = torch.tensor([int(index) for index in best if kinds[index] == kind])
            kept += own[nms(boxes[own], scores[own], 0.5)].tolist()
        expected.append(sorted(kept, key=lambda index: -float(scores[index]))[:40])
    assert all(10 <= len(kept) <= 40 for kept in expected)
    rows = candidates(given, rules)
    ways = (of_each_image(rows, rules), of_all_images(rows, rules),
            in_lists(in_fixed_places(rows, rules, 80)))  # fmt: skip
    for images in ways:
        for index, (found_rows, kept) in enumerate(zip(images, expected, strict=True)):
            torch.testing.assert_close(found_rows[:, :4], given.boxes[index][kept])
            torch.testing.assert_close(found_rows[:, 4], given.scores[index][kept])
            assert found_rows[:, 5].tolist() == given.classes[index][kept].tolist()


def test_images_without_boxes_are_in_their_places() -> None:
    given, rules = overlapping(3, 50, 2)
    rows, passed = candidates(given, rules)
    passed = passed & torch.tensor([[False], [True], [False]])
    for images in (of_each_image(Candidates(rows, passed), rules),
                   of_all_images(Candidates(rows, passed), rules),
                   in_lists(in_fixed_places(Candidates(rows, passed), rules, 80))):  # fmt: skip
        assert [len(one) > 0 for one in images] == [False, True, False]


def test_chains_that_are_too_long_for_the_rounds_are_refused() -> None:
    steps = torch.arange(40.0)
    boxes = torch.stack([steps, 0 * steps, steps + 4, 0 * steps + 10], 1)[None]
    given = Predictions(boxes, 1 - steps[None] / 100, torch.zeros(1, 40, dtype=torch.int64))
    rules = Rules(1, 0.1, 0.5, 100, 100)
    fixed = in_fixed_places(candidates(given, rules), rules, 40)
    with pytest.raises(ValueError, match="rounds of suppression were too few"):
        in_lists(fixed)
    short = candidates(Predictions(*(part[:, :8] for part in given)), rules)
    assert len(in_lists(in_fixed_places(short, rules, 40))[0]) == 4  # every second one


def run(rows: Path, engines: Path, *others: str) -> int:
    return bench_detectors.main(
        ["--device", "cpu", "--peer", "eager", "--rounds", "6", "--cell-seconds", "1",
         "--size", "64x64", "--engines", str(engines), "--rows", str(rows), *others])  # fmt: skip


def test_a_run_on_a_cpu(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    chosen = ["--model", "yolox_nano", "--model", "nosuch", "--batch", "2", "--cudnn-benchmark"]
    assert run(rows, tmp_path / "engines", *chosen) == 1  # for there is no such model
    one, other = read_rows(rows)
    peer, timed, session = one["candidates"]
    assert (one["model"], one["shape"]) == ("yolox_nano", [2, 3, 64, 64])
    assert (peer["name"], session["name"]) == ("eager, batched_nms of each image", "session")
    assert timed["name"] == "eager, cudnn.benchmark, batched_nms of each image"
    assert peer["ratio"]["low"] <= peer["ratio"]["median"] <= peer["ratio"]["high"]
    assert session["matched"] == peer["matched"] == 1
    assert min(one["boxes"]) >= 20
    assert "no model 'nosuch'" in other["failed"]
    text = rows.with_suffix(".md").read_text()
    assert timed["matched"] == 1
    assert "| yolox_nano, 64x64 | **session** |" in text
    assert "nosuch was not measured" in text


def test_without_an_engine_peers_have_figures(tmp_path: Path) -> None:
    task = task_of("yolox_nano", 1, tmp_path, (64, 64))
    engine(task, tmp_path, "fp32").write_bytes(b"no engine")
    rows = tmp_path / "rows.jsonl"
    assert run(rows, tmp_path, "--model", "yolox_nano", "--batch", "1") == 1
    (one,) = read_rows(rows)
    peer, session = one["candidates"]
    assert peer["median_ms"] > 0
    assert peer["matched"] == 1
    assert "reason" in session
    text = rows.with_suffix(".md").read_text()
    assert "| yolox_nano, 64x64 | **eager, batched_nms of each image** |" in text
    assert "* yolox_nano: no session: " in text


class Slow:
    """A process that takes 0.2 s for each task."""

    asked = 0

    def ask(self, task: dict[str, Any], limit_s: float, until: float) -> dict[str, Any]:
        self.asked += 1
        time.sleep(0.2)
        row = {**task["cell"], "candidates": [], "best_peer": None, "level": None, "failed": "no"}
        return {"rows": [row]}

    def stop(self) -> None:
        pass


def test_nothing_is_begun_that_would_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Slow()
    monkeypatch.setattr(bench_detectors.Run, "worker", lambda run: worker)
    options = bench_detectors.parsed(["--model", "a", "--model", "b", "--model", "c", "--batch",
                                      "1", "--rows", str(tmp_path / "rows.jsonl")])  # fmt: skip
    settings = bench_detectors.settings_of(options)
    made = bench_detectors.Run(options, settings, time.monotonic() + 0.5)
    assert [row["model"] for row in bench_zoo.measure(made)] == ["a", "b"]
    assert worker.asked == 2
    assert "no time for c 1" in capsys.readouterr().out


def test_torchvisions_detectors_get_one_image() -> None:
    names = ["--model", "yolov8n", "--model", "retinanet_resnet50_fpn"]
    options = bench_detectors.parsed([*names, "--batch", "2", "--batch", "4"])
    made = bench_detectors.Run(options, bench_detectors.settings_of(options), 0.0)
    found_cells = [(cell["model"], cell["batch"], cell["precision"]) for cell in made.cells()]
    assert found_cells == [("yolov8n", 2, "fp16"), ("yolov8n", 4, "fp16"),
                           ("retinanet_resnet50_fpn", 1, "fp16")]  # fmt: skip


def test_the_page_has_all_candidates() -> None:
    ratio = {"median": 1.2, "low": 1.1, "high": 1.3, "rounds": 41}
    figures = {"setup_s": 1.0, "captured": True, "matched": 0.975, "memory_mib": {"peak": 2000.0}}
    row = {
        "model": "yolov8n", "batch": 16, "precision": "fp16", "shape": [16, 3, 640, 640],
        "boxes": [20, 30], "machine": "a GPU", "versions": {"torch": "2.11.0"}, "level": 5,
        "best_peer": "fast", "seconds": 9.0, "date": "2026-11-30", "command": "python x",
        "candidates": [
            {"name": "slow", "median_ms": 2.0, "ratio": {**ratio, "median": 2.0}, **figures},
            {"name": "fast", "median_ms": 1.2, "ratio": ratio, "cold_setup_s": 33.0, **figures},
            {"name": "lost", "reason": "RuntimeError: no"},
            {"name": "session", "median_ms": 1.0, "not_captured": "the data decide", **figures},
        ],
    }  # fmt: skip
    text = page([row], "rows.jsonl")
    lines = [line for line in text.splitlines() if line.startswith("| yolov8n")]
    assert [line.split(" | ")[1] for line in lines] == ["**session**", "**fast**", "slow"]
    assert ("| 1.200 ms | 1.20 [1.10, 1.30] | 97.5% of 50 | 1.0 s (33 s) | 2,000 |") in lines[1]
    assert "Geometric mean of the ratios of 1 of 1 models: **1.20**" in text
    assert "begins below 1.0 for 0." in text
    assert "* yolov8n: no lost: RuntimeError: no" in text
    assert "* yolov8n: session runs without a CUDA graph: the data decide" in text
    assert "## a GPU, level 5" in text
