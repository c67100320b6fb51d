"""Holds `trtnet.search` against simpler ways to choose modules.

    python tools/bench_search.py [MODEL ...] [--markdown docs/precision_search.md]

For each network and each of several budgets the estimated time of the policy that the search finds
is compared with the best that each of these orders reaches within the same budget: no module or
all of them (uniform), the first N, the last N, and N in four seeded random orders. The simpler ways
get every N tried on the real network; the search gets its own few trials.

The ranking of the modules (each one alone in INT8, only what is behind it executed) is compared,
by Spearman's rank correlation, with leaving each one out of a network that is INT8 otherwise.

Needs ``pip install -e ".[rtx,torch,dev]"``; no GPU. Ends with status 1 where the search is beaten,
or ResNet-18's correlation is below 0.9.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import train_lenet
import train_resnet
from installed import versions

import trtnet
from trtnet import zoo
from trtnet.files import atomic_write
from trtnet.pipeline import load_weights
from trtnet.search import Budget, Data, MixableNetwork, Sensitivity, search, sensitivity
from trtnet.search.finding import MixRunner
from trtnet.search.journal import SearchJournal

SHARES = (0.15, 0.35, 0.55, 0.75)  # of the way from all modules changed to none, in dB
RANDOM_ORDERS = 4


@dataclass(frozen=True)
class Case:
    """A network, and what it is judged on.

    Attributes:
        images: (N, C, H, W) float32.
        batch: of the network; its time is that of one batch.
        ranked_by: how many of the images rank the modules.
        correlation: the least that the rankings' may be. In the trained networks errors of
            modules partly cancel, which no ranking of modules alone knows: no least there.
    """

    model: str
    about: str
    images: Callable[[], np.ndarray]
    batch: int
    ranked_by: int
    correlation: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Estimated times within one budget, in seconds.

    Attributes:
        ways: the best that each of the other ways reaches.
        tried: how many networks the search tried.
    """

    budget: Budget
    found: float
    ways: dict[str, float]
    tried: int

    @property
    def is_beaten(self) -> bool:
        """Whether another way found a faster network."""
        return self.found > min(self.ways.values()) * (1 + 1e-9)


@dataclass(frozen=True)
class Result:
    """The measurements of one network."""

    case: Case
    comparisons: list[Comparison]
    correlation: float
    seconds: float
    modules: int

    @property
    def passed(self) -> bool:
        """Whether the search is beaten nowhere, and the ranking is good enough."""
        least = self.case.correlation
        ranked = least is None or self.correlation >= least
        return ranked and not any(row.is_beaten for row in self.comparisons)


def _noise(size: int, count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, size, size), dtype=np.float32)


CASES = (
    Case("lenet5", "256 training digits", lambda: train_lenet.digits("train")[0][:256], 64, 64),
    Case(
        "resnet20_digits",
        "64 distorted training digits",
        lambda: train_resnet.distorted_digits("train")[0][:64],
        64,
        64,
    ),
    Case("resnet18", "32 images of noise, 32x32; settled random weights",
         lambda: _noise(32, 32), 16, 32, correlation=0.9),
)  # fmt: skip


def measure(case: Case) -> Result:
    """Searches within every budget, and tries the simpler ways."""
    subject, data = _prepare(case)
    journal, ranked_by = SearchJournal(None, ""), data.head(case.ranked_by)
    started = time.perf_counter()
    rows = sensitivity(subject, ranked_by, journal=journal)
    seconds = time.perf_counter() - started
    trials = MixRunner(subject, data, journal, None)
    comparisons = []
    for budget in _budgets(trials, subject):
        found = search(subject, data, budget, ranked_by=ranked_by, journal=journal)
        ways = {name: best(order, trials, budget) for name, order in _orders(subject)}
        ways["uniform"] = min(
            trial.seconds
            for trial in (trials(()), trials(subject.modules))
            if budget.accepts(trial.metrics)
        )
        tried = len(found.trials)
        comparisons.append(Comparison(budget, found.best.seconds, ways, tried))
    correlation = leave_one_out(rows, trials, subject)
    return Result(case, comparisons, correlation, seconds, len(rows))


def best(order: Sequence[str], trials: MixRunner, budget: Budget) -> float:
    """The least time of all beginnings of `order` that are within the budget."""
    tried = (trials(order[:n]) for n in range(len(order) + 1))
    return min(trial.seconds for trial in tried if budget.accepts(trial.metrics))


def leave_one_out(rows: Sequence[Sensitivity], trials: MixRunner, subject: MixableNetwork) -> float:
    """Spearman's rank correlation of the squared errors of modules alone with what leaving each
    one out takes off the squared error of all together."""
    every = trials(subject.modules).metrics.rel_l2 ** 2
    alone, taken_off = [], []
    for row in rows:
        others = [module for module in subject.modules if module != row.module]
        alone.append(row.metrics.rel_l2**2)
        taken_off.append(every - trials(others).metrics.rel_l2 ** 2)
    return spearman(alone, taken_off)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation of values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _prepare(case: Case) -> tuple[MixableNetwork, Data]:
    entry = zoo.get_entry(case.model)
    model = entry.build()
    model.load_state_dict(load_weights(entry, None, 0, {}))
    images = case.images()

    def define(policy: trtnet.Policy, calibration: object) -> trtnet.Network:
        network = trtnet.Network("rtx", policy, calibration=calibration)  # type: ignore[arg-type]
        x = network.input("input", (case.batch, *images.shape[1:]))
        network.output("logits", model(x))
        return network

    starts = range(0, len(images), case.batch)
    data = Data(tuple({"input": images[i : i + case.batch]} for i in starts))
    return MixableNetwork(define).calibrated(data), data


def _budgets(trials: MixRunner, subject: MixableNetwork) -> Iterator[Budget]:
    low = trials(subject.modules).metrics.sqnr_db
    high = trials(()).metrics.sqnr_db
    yield Budget("sqnr", round(low - 1, 1))  # everything fits
    yield from (Budget("sqnr", round(low + share * (high - low), 1)) for share in SHARES)


def _orders(subject: MixableNetwork) -> Iterator[tuple[str, list[str]]]:
    modules = list(subject.modules)
    yield "first N", modules
    yield "last N", modules[::-1]
    random = np.random.default_rng(0)
    for number in range(RANDOM_ORDERS):
        yield f"random {number}", [modules[i] for i in random.permutation(len(modules))]


def markdown(results: Sequence[Result]) -> list[str]:
    """The page."""
    lines = [
        "# Search against simpler ways",
        "",
        "`python tools/bench_search.py`: the estimated time (roofline of an NVIDIA L40S, one "
        "batch, µs) of the policy that `trtnet.search` finds between INT8 and FP16, and the best "
        "that other ways to choose modules reach within the same budget. Each of these is tried "
        f"with every N on the real network; of the {RANDOM_ORDERS} random orders the best and "
        "the mean are given. Bold: no other way is faster than the search. All modules fit into "
        "the first budget, so all ways are equal there; a way that can change no module has "
        "FP16's time.",
        "",
        "The rank correlation compares the error of each module alone in INT8 with the decrease of "
        "the error when this module alone leaves an INT8 network. In the trained networks errors "
        "partly cancel, which a ranking of single modules cannot show; the search runs every "
        "network that it reports.",
        "",
        f"{datetime.date.today()}; {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; {versions('tensorrt-rtx', 'torch', 'numpy')}; no GPU.",
    ]
    for result in results:
        lines += ["", *_section(result)]
    return lines


def _section(result: Result) -> Iterator[str]:
    case = result.case
    yield f"## {case.model}"
    yield ""
    yield (
        f"{case.about}, batch {case.batch}. All {result.modules} modules alone: "
        f"{result.seconds:.1f} s. Rank correlation with leaving one out: "
        f"{result.correlation:.3f}{f' (aim {case.correlation})' if case.correlation else ''}."
    )
    yield ""
    yield "| budget | search | tried | uniform | first N | last N | random, best | random, mean |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in result.comparisons:
        random = [value for name, value in row.ways.items() if name.startswith("random")]
        times = [row.ways["uniform"], row.ways["first N"], row.ways["last N"], min(random)]
        cells = [f"{1e6 * value:.3f}" for value in (*times, float(np.mean(random)))]
        found = f"**{1e6 * row.found:.3f}**" if not row.is_beaten else f"{1e6 * row.found:.3f}"
        yield f"| {row.budget} | {found} | {row.tried} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [case.model for case in CASES]
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {', '.join(names)}")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    chosen = [case for case in CASES if not arguments.models or case.model in arguments.models]
    results = []
    for case in chosen:
        result = measure(case)
        results.append(result)
        print("\n".join(_section(result)), flush=True)
    if arguments.markdown is not None:
        with atomic_write(arguments.markdown) as file:
            file.write(("\n".join(markdown(results)) + "\n").encode())
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
