"""Budgets in boxes, and the metrics of detectors, by pycocotools and by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import trtnet
from trtnet import detection, nn, ops
from trtnet.detection.average_precision import Truth, average_precision
from trtnet.detection.matching import boxes_in, match_of
from trtnet.precision.policy import Policy
from trtnet.search import Budget, Data, Metrics, MixableNetwork, search, sensitivity
from trtnet.search.finding import require_measurable
from trtnet.search.journal import StoredMetrics
from trtnet.search.measuring import outputs
from trtnet.search.metrics import Tally

CLASSES, CELLS, SIDE, BATCH = 3, 8, 16.0, 4


class Detector(nn.Module):
    """A box at each cell, moved and named by three convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 2 + CLASSES, 1)
        rng = np.random.default_rng(0)
        for layer in (self.stem, self.body, self.head):
            fan = np.prod(layer.weight.shape[1:])
            layer.weight.data = rng.normal(0, (2 / fan) ** 0.5, layer.weight.shape)
            layer.bias.data = rng.normal(0, 0.1, layer.bias.shape)

    def forward(self, x: trtnet.Tensor) -> dict[str, trtnet.Tensor]:
        features = ops.relu(self.body(ops.relu(self.stem(x))))
        rows = self.head(features).flatten(2).permute(0, 2, 1).float()
        y, x = np.mgrid[:CELLS, :CELLS] * SIDE
        cells = np.stack([x, y], -1).reshape(1, -1, 2).astype(np.float32)
        corner = rows.network.constant(cells) + rows[..., :2]
        boxes = ops.cat([corner, corner + 2 * SIDE], 2)
        how = detection.Suppression(0.4, 0.5, 40)
        return detection.output_tensors(detection.detections(boxes, rows[..., 2:].sigmoid(), how))


def define(policy: str | Policy, calibration: object = None) -> trtnet.Network:
    network = trtnet.Network("rtx", policy, calibration=calibration)
    model = Detector()
    for name, tensor in model(network.input("x", (BATCH, 3, CELLS, CELLS))).items():
        network.output(name, tensor)
    return network


@pytest.fixture(scope="module")
def subject() -> MixableNetwork:
    plain = MixableNetwork(define, to="int8")
    return plain.calibrated(Data(batches()))


def batches() -> tuple[dict[str, np.ndarray], ...]:
    rng = np.random.default_rng(1)
    shape = (3, BATCH, 3, CELLS, CELLS)
    return tuple({"x": x.astype(np.float32)} for x in rng.standard_normal(shape) * 2)


@pytest.fixture(scope="module")
def labelled(subject: MixableNetwork) -> Data:
    """The boxes that the network finds in FP32, a little off, and without every tenth of them."""
    rng = np.random.default_rng(2)
    found = []
    for part in outputs(subject.in_fp32, Data(batches())):
        truth = []
        for image in boxes_in(part):
            real = rng.uniform(size=len(image.scores)) > 0.1
            corners = image.corners[real] + rng.normal(0, 1, (real.sum(), 4))
            truth.append(Truth(corners, image.classes[real], np.zeros(real.sum(), bool)))
        found.append(tuple(truth))
    return Data(batches(), truth=tuple(found))


def test_metrics_of_a_mix(subject: MixableNetwork, labelled: Data) -> None:
    rows = sensitivity(subject, labelled)
    exact = [image for part in outputs(subject.in_fp32, labelled) for image in boxes_in(part)]
    truth = [image for batch in labelled.truth or () for image in batch]
    before = average_precision(exact, truth)
    assert before is not None
    assert before > 0.3
    for row in rows:
        read = subject.graph(subject.alone(row.module))
        ours = [image for part in outputs(read, labelled) for image in boxes_in(part)]
        after = average_precision(ours, truth)
        assert after is not None
        assert row.metrics.map_drop == pytest.approx(before - after)
        assert row.metrics.matched == match_of(ours, exact).share
        assert 0.5 < row.metrics.matched < 1


@pytest.mark.parametrize("text", ["map_drop<=0.005", "matched>=0.99"])
def test_a_search_keeps_a_budget_in_boxes(
    text: str, subject: MixableNetwork, labelled: Data
) -> None:
    found = search(subject, labelled, text)
    assert Budget.parse(text).accepts(found.best.metrics)
    assert found.policy.budget == Budget.parse(text)
    start, everything = found.trials[:2]
    assert start.metrics.matched == pytest.approx(1, abs=0.03)
    assert not Budget.parse(text).accepts(everything.metrics)
    read = subject.graph(subject.policy(found.best.changed))
    exact = [image for part in outputs(subject.in_fp32, labelled) for image in boxes_in(part)]
    ours = [image for part in outputs(read, labelled) for image in boxes_in(part)]
    assert found.best.metrics.matched == match_of(ours, exact).share


def outputs_of(count: int, scores: np.ndarray, shift: float = 0.0) -> dict[str, np.ndarray]:
    corners = np.arange(10)[:, None] * 100.0 + [0, 0, 50, 50] + shift
    return {"num_dets": np.array([[count]]), "det_boxes": corners[None],
            "det_scores": scores[None], "det_classes": np.arange(10)[None]}  # fmt: skip


def test_distances_are_of_matched_boxes() -> None:
    scores = np.linspace(0.9, 0.5, 10)
    theirs = outputs_of(10, scores)
    order = np.random.default_rng(3).permutation(10)
    ours = {name: part if name == "num_dets" else part[:, order]
            for name, part in theirs.items()}  # fmt: skip
    tally = Tally()
    tally.add(ours, theirs)
    assert tally.metrics == Metrics(0.0, 1.0, None, None, 1.0)
    tally = Tally()
    tally.add(outputs_of(9, scores), theirs)
    corners, kept = theirs["det_boxes"][0], np.arange(10) < 9
    lost = [np.linalg.norm(x[~kept]) / np.linalg.norm(x) for x in (corners, scores)]
    assert tally.metrics.rel_l2 == pytest.approx(max(lost))
    assert tally.metrics.matched == 0.9


def test_data_with_other_classes_does_not_tell_map() -> None:
    outputs = outputs_of(10, np.linspace(0.9, 0.5, 10))
    corners = outputs["det_boxes"][0]
    for classes, wanted in ((np.arange(10), 0.0), (np.arange(10) + 50, None)):
        tally = Tally()
        tally.add(outputs, outputs, truth=[Truth(corners, classes, np.zeros(10, bool))])
        assert tally.metrics.map_drop == wanted
    with pytest.raises(trtnet.UsageError, match="an mAP of at least") as error:
        Budget.parse("map_drop<=0.01").accepts(tally.metrics)
    assert "network's numbers" in str(error.value)
    with pytest.raises(trtnet.UsageError, match="finds boxes in the data"):
        Budget.parse("matched>=0.9").accepts(Metrics(0.1, 0.9, None))


def test_budgets_in_fractions() -> None:
    metrics = Metrics(0.1, 0.9, None, 0.003, 0.99)
    for text in ("map_drop<=0.003", "matched>=0.99"):
        budget = Budget.parse(text)
        assert str(budget) == text
        assert budget.accepts(metrics)
    assert not Budget.parse("map_drop<=0.002").accepts(metrics)
    assert not Budget.parse("matched>=0.995").accepts(metrics)
    assert Budget.parse("matched>=0.99").describe(metrics) == "matched boxes 0.9900"
    assert Budget.parse("map_drop<=0.01").describe(metrics) == "mAP drop 0.0030"
    for text in ("map_drop>=0.1", "map_drop<=1.5", "map_drop<=1%", "matched<=0.9", "matched>=99"):
        with pytest.raises(trtnet.UsageError):
            Budget.parse(text)


def test_a_policy_file_holds_the_budget(tmp_path: Path) -> None:
    Policy("fp16", budget=Budget.parse("map_drop<=0.003")).save(tmp_path / "p.toml")
    assert Policy.load(tmp_path / "p.toml").budget == Budget("map_drop", 0.003)


def test_too_few_boxes_do_not_show_a_drop(labelled: Data) -> None:
    require_measurable(Budget.parse("map_drop<=0.02"), labelled)
    require_measurable(Budget.parse("matched>=0.999"), Data(labelled.batches))
    with pytest.raises(trtnet.UsageError, match="expected: 10000 boxes or more"):
        require_measurable(Budget.parse("map_drop<=0.0001"), labelled)
    with pytest.raises(trtnet.UsageError, match="the data has no boxes"):
        require_measurable(Budget.parse("map_drop<=0.02"), Data(labelled.batches))
    few = dataclasses.replace(
        labelled, batches=labelled.batches[:1], truth=((labelled.truth or ())[0][:1],)
    )
    with pytest.raises(trtnet.UsageError, match="cannot be judged"):
        require_measurable(Budget.parse("map_drop<=0.5"), few)


def test_a_journal_holds_the_metrics() -> None:
    metrics = Metrics(0.1, 0.9, None, 0.003, 0.99)
    assert StoredMetrics(**dataclasses.asdict(metrics)).plain == metrics
