"""How sure a figure is: standard errors against repeated draws, and budgets with a margin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trtnet.errors import UsageError
from trtnet.precision.budget import Budget
from trtnet.search import (
    Ablation,
    Data,
    MixableNetwork,
    PresentMix,
    SearchJournal,
    SearchResult,
    Spread,
    ablate,
    job,
    search,
)
from trtnet.search.metrics import Metrics, Tally


def measured(random: np.random.Generator, items: int) -> Metrics:
    """Of outputs whose error differs from item to item by a factor."""
    theirs = random.standard_normal((items, 10))
    size = np.exp(0.5 * random.standard_normal((items, 1))) * 0.01
    ours = theirs + size * random.standard_normal((items, 10))
    tally = Tally()
    labels = random.integers(0, 10, items)
    for part in np.array_split(np.arange(items), 4):
        tally.add({"y": ours[part]}, {"y": theirs[part]}, labels[part])
    return tally.metrics


def test_standard_errors_are_those_of_repeated_measurements() -> None:
    random = np.random.default_rng(0)
    draws = [measured(random, 200) for _ in range(300)]
    found = [draw.spread for draw in draws if draw.spread is not None]
    assert len(found) == len(draws)
    for name in ("sqnr_db", "cosine"):
        values = np.array([getattr(draw, name) for draw in draws])
        told = float(np.mean([getattr(spread, name) for spread in found]))
        assert told == pytest.approx(float(values.std(ddof=1)), rel=0.15), name
    assert found[0].items == 200


def test_a_mean_has_its_textbook_standard_error() -> None:
    """Of the drop of top-1, the mean of -1, 0 and 1, it is the deviation over the root of n - 1."""
    labels = np.array([0, 0, 1, 1, 0, 1])
    theirs = np.eye(2)[[0, 0, 1, 0, 0, 1]]
    ours = np.eye(2)[[1, 0, 1, 1, 1, 1]]
    tally = Tally()
    tally.add({"y": ours}, {"y": theirs}, labels)
    lost = np.array([1, 0, 0, -1, 1, 0])
    assert tally.metrics.top1_drop == pytest.approx(100 * lost.mean())
    assert tally.metrics.spread is not None
    wanted = 100 * lost.std(ddof=1) / math.sqrt(6)
    assert tally.metrics.spread.top1_drop == pytest.approx(wanted)


def test_one_item_tells_no_spread() -> None:
    tally = Tally()
    tally.add({"y": np.ones((1, 4))}, {"y": np.full((1, 4), 1.1)})
    assert tally.metrics.spread is None


def test_a_budget_with_a_margin() -> None:
    spread = Spread(8, sqnr_db=1.0, cosine=1e-4, top1_drop=0.2)
    metrics = Metrics(10 ** (-32 / 20), 0.9999, 0.5, spread=spread)  # 32 dB
    assert Budget("sqnr", 30, margin=1.9).accepts(metrics)
    assert not Budget("sqnr", 30, margin=2.1).accepts(metrics)
    assert Budget("top1_drop", 1, margin=2.4).accepts(metrics)
    assert not Budget("top1_drop", 1, margin=2.6).accepts(metrics)
    assert not Budget("sqnr", 33).accepts(metrics)
    assert str(Budget("sqnr", 30, margin=2)) == "sqnr>=30dB"
    with pytest.raises(UsageError, match="has no standard error"):
        Budget("matched", 0.5, margin=1).accepts(Metrics(0.1, 0.9, None, None, 0.9, spread))
    with pytest.raises(UsageError, match="number of standard errors"):
        Budget("sqnr", 30, margin=-1)


@pytest.fixture(scope="module")
def found(lenet: MixableNetwork, lenet_data: Data) -> SearchResult:
    return search(lenet, lenet_data, "sqnr>=53dB")


def test_a_margin_makes_a_search_careful(
    found: SearchResult, lenet: MixableNetwork, lenet_data: Data
) -> None:
    careful = search(lenet, lenet_data, "sqnr>=53dB", margin=3, journal=found.journal)
    metrics = careful.best.metrics
    assert metrics.spread is not None
    assert metrics.sqnr_db - 3 * metrics.spread.sqnr_db >= 53
    assert careful.best.seconds >= found.best.seconds
    assert careful.policy.budget == Budget("sqnr", 53)
    assert f"± {found.best.metrics.spread.sqnr_db:.1f}" in str(found)  # type: ignore[union-attr]
    assert "on 104 items" in str(found)


def test_what_was_found_is_a_table(found: SearchResult) -> None:
    rows = found.rows()
    assert [row["module"] for row in rows] == list(found.subject.modules)
    assert {row["module"] for row in rows if row["changed"]} == {*found.best.changed}
    assert {row["precision"] for row in rows} <= {"int8", "fp16"}
    trials = found.trial_rows()
    assert [row["bound_s"] for row in trials] == [trial.seconds for trial in found.trials]
    assert sum(row["best"] for row in trials) == 1
    for row in trials:
        assert row["accepted"] == (row["sqnr_db"] is None or row["sqnr_db"] >= 53)
    told = found.journal.rows()
    assert [row["what"] for row in told].count("module") == len(rows)
    assert {tuple(row["changed"]) for row in told if row["what"] == "trial"} == {
        trial.changed for trial in found.trials
    }


def test_ablation_of_what_was_found(found: SearchResult) -> None:
    rows: list[Ablation] = ablate(found)
    again = ablate(found.subject, found.data, found.best.changed, journal=found.journal)
    assert rows == again
    assert {row.modules for row in rows} == {(name,) for name in found.best.changed}
    with pytest.raises(UsageError, match="needs data"):
        ablate(found.subject)


def test_journals_are_public(lenet: MixableNetwork, lenet_data: Data, tmp_path: object) -> None:
    path = f"{tmp_path}/journal"
    SearchJournal(path, job(lenet, lenet_data)).put("trial ", {"seconds": 1.0, "metrics": {
        "rel_l2": 0.1, "cosine": 0.9, "top1_drop": None}})  # fmt: skip
    (row,) = SearchJournal(path, None).rows()
    assert (row["what"], row["changed"], row["bound_s"], row["rel_l2"]) == ("trial", [], 1.0, 0.1)


def test_a_policy_is_taken_apart_as_the_search_put_it_together(found: SearchResult) -> None:
    """The present mix of a found policy defines the networks that the search did."""
    from trtnet.search import present_mix

    subject = found.subject
    mix = present_mix.of(found.policy, subject)
    assert isinstance(mix, PresentMix)
    assert mix.modules == found.best.changed
    for module in mix.modules:
        others = [name for name in mix.modules if name != module]
        assert mix.graph(mix.policy(others)) == subject.graph(subject.policy(others))
        assert mix.graph(mix.alone(module)) == subject.graph(subject.alone(module))
    assert mix.graph(mix.policy(mix.modules)) == subject.graph(found.policy)
