"""The search against every possible choice, against simpler ways, and against a kill."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet.errors import UsageError
from trtnet.precision.policy import Policy
from trtnet.search import (
    Budget,
    Data,
    Metrics,
    MixableNetwork,
    Sensitivity,
    TriedMix,
    pareto,
    search,
)
from trtnet.search.finding import MixRunner, _improved, _neighbours
from trtnet.search.journal import SearchJournal

BUDGETS = ("sqnr>=30dB", "sqnr>=50dB", "sqnr>=53dB", "cosine>=0.99999", "top1_drop<=1")


@pytest.fixture(scope="module")
def every_choice(lenet: MixableNetwork, lenet_data: Data) -> MixRunner:
    """All 32 networks, in memory."""
    trials = MixRunner(lenet, lenet_data, SearchJournal(None, ""), None)
    for count in range(6):
        for changed in itertools.combinations(lenet.modules, count):
            trials(changed)
    return trials


@pytest.mark.parametrize("text", BUDGETS)
def test_no_choice_of_lenets_modules_is_faster(
    text: str, lenet: MixableNetwork, lenet_data: Data, every_choice: MixRunner
) -> None:
    budget = Budget.parse(text)
    found = search(lenet, lenet_data, budget, journal=every_choice.journal)
    assert budget.accepts(found.best.metrics)
    possible = [t for t in every_choice.done.values() if budget.accepts(t.metrics)]
    assert found.best.seconds == pytest.approx(min(t.seconds for t in possible), rel=1e-12)
    assert found.policy == dataclasses.replace(lenet.policy(found.best.changed), budget=budget)


def fastest(order: Sequence[str], trials: MixRunner, budget: Budget) -> float:
    tried = [trials(order[:n]) for n in range(len(order) + 1)]
    return min(trial.seconds for trial in tried if budget.accepts(trial.metrics))


def test_simpler_ways_are_no_faster(residual: MixableNetwork, residual_data: Data) -> None:
    """Uniform, the first N, the last N, and N in random orders, within two budgets."""
    journal = SearchJournal(None, "")
    trials = MixRunner(residual, residual_data, journal, None)
    modules = list(residual.modules)
    random = np.random.default_rng(0)
    orders = [modules, modules[::-1]]
    orders += [[modules[i] for i in random.permutation(len(modules))] for _ in range(2)]
    low, high = (trials(m).metrics.sqnr_db for m in (modules, []))
    for share in (0.1, 0.3):
        budget = Budget("sqnr", low + share * (high - low))
        found = search(residual, residual_data, budget, journal=journal)
        assert budget.accepts(found.best.metrics)
        for order in orders:
            assert found.best.seconds <= fastest(order, trials, budget) * (1 + 1e-12)


def test_a_budget_that_even_the_rest_exceeds(
    lenet: MixableNetwork, lenet_data: Data, raises: Any
) -> None:
    with raises(UsageError, "sqnr>=200dB is exceeded before any module is int8", "fp16"):
        search(lenet, lenet_data, "sqnr>=200dB")


class FakeRunner:
    """Stands for a MixRunner: `squares` has the squared error of each set of changed modules; each
    module saves a microsecond."""

    def __init__(self, squares: dict[frozenset[str], float]) -> None:
        self.squares, self.tried = squares, list[frozenset[str]]()

    def has(self, changed: Collection[str]) -> bool:
        return frozenset(changed) in self.tried

    def seconds(self, changed: Collection[str]) -> float:
        return 1e-3 - 1e-6 * len(changed)

    def __call__(self, changed: Collection[str]) -> TriedMix:
        self.tried.append(frozenset(changed))
        metrics = Metrics(self.squares[frozenset(changed)] ** 0.5, 1.0, None)
        return TriedMix(tuple(changed), metrics, self.seconds(changed))


@pytest.mark.parametrize(
    ("alone", "is_tried"), [(0.5e-4, True), (2.9e-4, True), (3.1e-4, False), (20e-4, False)]
)
def test_what_exceeds_the_budget_threefold_by_prediction_is_not_tried(
    alone: float, is_tried: bool
) -> None:
    """Errors of modules can cancel: a mix that is predicted to have up to three times the squared
    error of the budget is run, and counts by what it really has."""
    budget = Budget.parse("sqnr>=40dB")  # a squared error of 1e-4
    rows = [Sensitivity("new", "convolution", Metrics(alone**0.5, 1.0, None), 1e-6)]
    runner = FakeRunner({frozenset(["new"]): 0.9e-4})
    start = TriedMix((), Metrics(0.0, 1.0, None), 1e-3)
    found = _improved(start, rows, runner, budget)  # type: ignore[arg-type]  # stands for a runner
    assert runner.tried == ([frozenset(["new"])] if is_tried else [])
    assert found.changed == (("new",) if is_tried else ())


def test_the_error_of_what_is_changed_already_counts() -> None:
    """So much of the threefold room is taken, also by the module that is exchanged."""
    budget = Budget.parse("sqnr>=40dB")
    errors = {"old": 0.9e-4, "fits": 2.0e-4, "too-much": 2.2e-4}
    rows = [
        Sensitivity(name, "convolution", Metrics(square**0.5, 1.0, None), 1e-6)
        for name, square in errors.items()
    ]
    best = TriedMix(("old",), Metrics(errors["old"] ** 0.5, 1.0, None), 1e-3)
    neighbours = list(_neighbours(best, rows, budget))
    assert ("old", "fits") in neighbours
    assert ("old", "too-much") not in neighbours
    assert ("too-much",) in neighbours  # instead of "old", whose error goes


def test_top1_is_of_classifiers(residual_define: Any, residual_data: Data, raises: Any) -> None:
    from trtnet.search import Metrics

    with raises(UsageError, "[N, classes]"):
        Budget.parse("top1_drop<=1").accepts(Metrics(0.1, 0.9, None))


def test_the_front_has_no_trial_that_another_beats(every_choice: MixRunner) -> None:
    trials = list(every_choice.done.values())
    front = pareto(trials)
    for trial in trials:
        is_beaten = any(
            other.seconds <= trial.seconds
            and other.metrics.rel_l2 <= trial.metrics.rel_l2
            and (other.seconds, other.metrics.rel_l2) != (trial.seconds, trial.metrics.rel_l2)
            for other in trials
        )
        assert (trial in front) != is_beaten or any(
            (t.seconds, t.metrics.rel_l2) == (trial.seconds, trial.metrics.rel_l2) for t in front
        )


def test_a_killed_search_goes_on_to_the_same_policy(tmp_path: Path) -> None:
    """SIGKILL as soon as the journal has a few results, in the middle of a line as well."""
    from sklearn.datasets import load_digits

    images = np.kron(load_digits().images[:16], np.ones((4, 4)))[:, None] / 16
    np.save(tmp_path / "digits.npy", images.astype(np.float32))
    command = [sys.executable, "-m", "trtnet.cli.main", "search", "lenet5", "--data", "digits.npy",
               "--budget", "sqnr>=53dB", "-o"]  # fmt: skip
    root = str(Path(__file__).resolve().parents[2])
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": {**os.environ, "PYTHONPATH": root},
        "stdout": subprocess.DEVNULL,
    }
    subprocess.run([*command, "whole.toml"], check=True, timeout=300, **options)

    journal = tmp_path / "killed.toml.journal"
    process = subprocess.Popen([*command, "killed.toml"], **options)
    wait_for_lines(journal, 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not (tmp_path / "killed.toml").exists()
    with journal.open("ab") as file:
        file.write(b'{"key": "trial c1", "val')  # what a kill in the middle of a write leaves
    before = journal.read_bytes().splitlines()[:-1]

    subprocess.run([*command, "killed.toml"], check=True, timeout=300, **options)
    assert (tmp_path / "killed.toml").read_text() == (tmp_path / "whole.toml").read_text()
    assert Policy.load(tmp_path / "killed.toml").compute == "int8"
    lines = journal.read_bytes().splitlines()
    assert lines[: len(before)] == before  # nothing was measured again
    keys = [json.loads(line)["key"] for line in lines[1:]]
    assert len(keys) == len(set(keys))
    assert journal.read_bytes() == (tmp_path / "whole.toml.journal").read_bytes()


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        assert process.poll() is None, "the search ended before it could be killed"
        time.sleep(0.001)
    raise AssertionError("the search writes no journal")
