"""``tools/bench_detectors.py``: its peers find what the models that they are made of find, and the
boxes that are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bench_detector_peers as peers
import bench_detectors
import pytest
import torch
from bench_detector_peers import Found, Peer, YoloxBoxes, dense_replayed, found_by
from paired_timing import Candidate, paired_ratio

from trtnet.weights.random_init import build
from trtnet.zoo import get_entry


def found(*rows: tuple[float, ...]) -> Found:
    """Of rows of corners, score and class."""
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return Found(values[:, :4], values[:, 4], values[:, 5])


def test_a_box_is_found_with_its_class_and_nearly_its_place() -> None:
    wanted = found((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 2))
    assert wanted.share_in(wanted, 0.9) == 1
    assert wanted.share_in(found((0, 0, 10, 9.5, 0.1, 1)), 0.9) == 0.5
    assert wanted.share_in(found((0, 0, 10, 8.5, 0.9, 1)), 0.9) == 0  # IoU 0.85
    assert wanted.share_in(found((0, 0, 10, 10, 0.9, 2)), 0.9) == 0
    assert wanted.share_in(found(), 0.9) == 0
    assert found().share_in(wanted, 0.9) == 1


def test_boxes_without_an_area_are_not_compared() -> None:
    some = found((0, 0, 10, 0.5, 0.9, 1), (0, 0, 10, 10, 0.05, 1), (1, 1, 3, 3, 0.5, 1))
    assert some.above(0.1).scores.tolist() == [0.5]


def test_outputs_of_a_session() -> None:
    boxes = torch.arange(8.0).reshape(1, 2, 4)
    one = Found.of_outputs([torch.tensor([[1]]), boxes, torch.tensor([[0.5, 0]]),
                            torch.tensor([[3, 0]])])  # fmt: skip
    assert (one.boxes.tolist(), one.scores.tolist(), one.classes.tolist()) == (
        [[0, 1, 2, 3]], [0.5], [3])  # fmt: skip


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


def test_yolox_finds_what_its_twin_finds(without_a_gpu: list[int]) -> None:
    """The twin suppresses in code of its own."""
    task = bench_detectors.task_of("yolox_shapes", Path("unused"), (64, 64))
    twin: Any = get_entry("yolox_shapes").torch_model()
    twin.load_state_dict({key: torch.tensor(task.state[key]) for key in task.state})
    crop = task.prepared[:, :, :128, :128]
    model = YoloxBoxes(twin, crop)
    with torch.inference_mode():
        counts, boxes, scores, classes = twin(crop).values()
        direct = found_by(model([crop]))
        replayed = found_by(Peer(dense_replayed(model, torch.zeros_like(crop)), crop)())
    count = int(counts)
    assert count >= 10
    for mine in (direct, replayed):
        torch.testing.assert_close(mine.boxes, boxes[0, :count].double(), rtol=0, atol=1e-3)
        torch.testing.assert_close(mine.scores, scores[0, :count].double(), rtol=1e-4, atol=0)
        assert mine.classes.tolist() == classes[0, :count].tolist()


def test_the_page() -> None:
    result = bench_detectors.Result("yolox_shapes", boxes=40, captured="yes")
    own, peer = (Candidate(name, lambda: None, None, 1.0) for name in ("session", "eager"))
    own.times, peer.times = [1.0] * 6, [2.0] * 6
    result.candidates = [peer, own]
    result.matched = {"session": 0.975, "eager": 1.0}
    result.ratios = {"eager": paired_ratio(peer.times, own.times)}
    lost = bench_detectors.Result("retinanet_resnet50_fpn", reasons={"session": "no memory"})
    text = bench_detectors.page([result, lost], bench_detectors.parsed(["--device", "cpu"]))
    assert "| yolox_shapes | eager | 2.000 ms | 2.00 [2.00, 2.00] | 100.0% of 40 | 1.0 s |" in text
    assert "| yolox_shapes | session | 1.000 ms |  | 97.5% of 40 | 1.0 s |" in text
    assert "* yolox_shapes: the session's network is one CUDA graph: yes." in text
    assert "* retinanet_resnet50_fpn: not measured: session: no memory." in text
