"""The fastest mix of precisions within a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence

from trtnet.errors import UsageError
from trtnet.precision.budget import Budget
from trtnet.records import Records
from trtnet.search.data import LEAST_LABELS, Data
from trtnet.search.journal import SearchedNetwork, SearchJournal, StoredTrial
from trtnet.search.measuring import Outputs, measure, outputs
from trtnet.search.metrics import Metrics
from trtnet.search.mixable_network import MixableNetwork
from trtnet.search.result import SearchResult, TriedMix
from trtnet.search.sensitivities import (
    Progress,
    Sensitivity,
    most_sensitive_first,
    sensitivity,
)

_TRIALS = 24  # at most so many networks are run to improve on the ranked lists
_LOOKS = 400  # at most so many are defined, for their time alone
# Errors do not add up exactly: a mix is tried if its predicted squared error is at most so many
# times the one that the budget allows.
_SLACK = 3


def search(
    subject: MixableNetwork,
    data: Data,
    budget: Budget | str,
    *,
    ranked_by: Data | None = None,
    sensitivities: Sequence[Sensitivity] | None = None,
    margin: float = 0.0,
    journal: SearchJournal | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Finds the fastest mix of precisions within a budget.

    Modules are ranked by the time they save per squared error. Of the ranked list the longest
    part whose real network is within the budget is found by bisection, likewise of the list
    ranked by error alone, and from either end of the model; from the fastest of these, single
    modules are then added, exchanged and removed as long as that helps. Every network that
    counts is defined, read back and run on all of the data. There is no randomness: the same
    call gives the same policy.

    Args:
        data: what the budget is judged on.
        ranked_by: the items whose errors rank the modules; by default the first eight of `data`.
        sensitivities: what :func:`trtnet.search.sensitivity` has measured of this network, in
            place of measuring it again on `ranked_by`.
        margin: by how many of its standard errors the figure has to be within the budget, so that
            it is on other items too: 1.64 for about 95 %. See :class:`trtnet.search.Spread`.
        journal: earlier results, such as of a search that was killed; they are not measured
            again. See :func:`trtnet.search.sensitivities.job`.
        progress: called with what has been done, in words: ``"12 of 53 modules measured"``, then
            ``"31 networks tried, best SQNR 26.1 dB, 20.13 µs"``.

    Raises:
        UsageError: a budget that cannot be read, that `data` cannot show, or that even the
            unchanged network exceeds; sensitivities of other modules.
    """
    budget = Budget.parse(budget) if isinstance(budget, str) else budget
    asked, budget = budget, dataclasses.replace(budget, margin=margin)
    require_measurable(budget, data)
    journal = SearchJournal(None, "") if journal is None else journal
    if journal.get("network", SearchedNetwork) is None:
        journal.put("network", {"weights": subject.weights_sha256})
    if sensitivities is None:
        rows = sensitivity(subject, ranked_by or data.head(8), journal=journal, progress=progress)
    else:
        rows = _of_the_modules(sensitivities, subject)
    trials = MixRunner(subject, data, journal, progress, budget)
    start = trials(())
    if not budget.accepts(start.metrics):
        raise UsageError(
            f"the budget {budget} is exceeded before any module is {subject.to}",
            got=f"{budget.value(start.metrics):g} with all of them {subject.rest}",
            fix="choose a looser budget, or keep the rest in fp32",
        )
    best = _fastest(_lists(rows, subject.modules), trials, budget, start)
    best = _improved(best, rows, trials, budget)
    return SearchResult(
        dataclasses.replace(subject.policy(best.changed), budget=asked),
        best,
        tuple(trials.done.values()),
        tuple(rows),
        subject,
        data,
        budget,
        journal,
    )


def require_measurable(budget: Budget, data: Data) -> None:
    """Raises :class:`UsageError` for a budget that `data` cannot show to be kept."""
    if budget.metric == "map_drop":
        _require_boxes(budget, data)
    if budget.metric != "top1_drop":
        return
    if data.lacks_top1 is not None:
        raise UsageError(
            f"the budget {budget} cannot be judged",
            expected=f"{LEAST_LABELS} labels or more",
            got=data.lacks_top1,
            fix="a .npz file with an array of class numbers called labels, or a budget in sqnr or "
            "cosine",
        )
    if 0 < budget.limit < 100 / data.answers:
        raise UsageError(
            f"the budget {budget} cannot be judged",
            expected=f"{math.ceil(100 / budget.limit)} labels or more",
            got=f"{data.answers} labels: one answer alone is {100 / data.answers:.3g} points",
            fix="use more of the data (--items, limit=), or a budget in sqnr or cosine",
        )


def _require_boxes(budget: Budget, data: Data) -> None:
    """As :func:`require_measurable`, for boxes: of that many, one alone is no more than the limit
    on average."""
    wanted = max(LEAST_LABELS, math.ceil(1 / budget.limit) if budget.limit else 0)
    if data.truth is None or data.boxes < wanted:
        raise UsageError(
            f"the budget {budget} cannot be judged",
            expected=f"{wanted} boxes or more",
            got=data.lacks_map or f"{data.boxes} boxes: one alone is {1 / data.boxes:.3g}",
            fix="a folder of images with annotations.json in COCO's format, a .npz file with arrays"
            " called boxes and box_classes, more of the data (--items, limit=), or a budget in "
            "matched",
        )


def _of_the_modules(rows: Sequence[Sensitivity], subject: MixableNetwork) -> Records[Sensitivity]:
    if sorted(row.module for row in rows) != sorted(subject.modules):
        raise UsageError(
            "the sensitivities are not those of this network",
            expected=f"one for each of {len(subject.modules)} modules",
            got=f"{len(rows)} sensitivities",
        )
    return most_sensitive_first(rows)


class MixRunner:
    """Defines, runs and measures networks, each once."""

    def __init__(
        self,
        subject: MixableNetwork,
        data: Data,
        journal: SearchJournal,
        progress: Progress | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.subject, self.data, self.journal = subject, data, journal
        self.progress, self.budget = progress, budget
        self.done: dict[tuple[str, ...], TriedMix] = {}
        self._best: TriedMix | None = None
        self._wanted: list[Outputs] = []
        self._seconds: dict[tuple[str, ...], float] = {}

    def __call__(self, changed: Collection[str]) -> TriedMix:
        """The trial of the network with the modules `changed`."""
        names = self.subject.in_order(changed)
        if names in self.done:
            return self.done[names]
        key = "trial " + " ".join(names)
        stored = self.journal.get(key, StoredTrial)
        if stored is None:
            metrics, seconds = self._measure(names)
            self.journal.put(key, {"metrics": dataclasses.asdict(metrics), "seconds": seconds})
        else:
            metrics, seconds = stored.metrics.plain, stored.seconds
        trial = TriedMix(names, metrics, seconds)
        self.done[names] = trial
        self._report(trial)
        return trial

    def _report(self, trial: TriedMix) -> None:
        if self.progress is None or self.budget is None:
            return
        faster = self._best is None or trial.seconds < self._best.seconds
        if faster and self.budget.accepts(trial.metrics):
            self._best = trial
        count = len(self.done)
        text = f"{count} network{'s' * (count != 1)} tried"
        if self._best is not None:
            found = self.budget.describe(self._best.metrics)
            text += f", best {found}, {1e6 * self._best.seconds:.2f} µs"
        self.progress(text)

    def has(self, changed: Collection[str]) -> bool:
        """Whether that network was tried before."""
        return self.subject.in_order(changed) in self.done

    def seconds(self, changed: Collection[str]) -> float:
        """The time of that network, which is not run."""
        names = self.subject.in_order(changed)
        if names in self.done:
            return self.done[names].seconds
        if names not in self._seconds:
            read = self.subject.graph(self.subject.policy(names))
            self._seconds[names] = self.subject.seconds(read)
        return self._seconds[names]

    def _measure(self, names: Sequence[str]) -> tuple[Metrics, float]:
        if not self._wanted:
            self._wanted = [*outputs(self.subject.in_fp32, self.data)]
        read = self.subject.graph(self.subject.policy(names))
        return measure(read, self._wanted, self.data), self.subject.seconds(read)


def _lists(rows: Sequence[Sensitivity], modules: Sequence[str]) -> list[Sequence[str]]:
    """Orders in which to change modules: by time saved per error, by error, and from either end of
    the model, because neighbours need no conversions between them."""
    by_merit = sorted(rows, key=lambda row: -row.merit)
    by_error = sorted(rows, key=lambda row: row.metrics.rel_l2)
    ranked = ([row.module for row in order] for order in (by_merit, by_error))
    return [*ranked, modules, modules[::-1]]


def _fastest(
    lists: Sequence[Sequence[str]], trials: MixRunner, budget: Budget, start: TriedMix
) -> TriedMix:
    """The fastest of the longest beginnings of `lists` that are within the budget."""
    everything = trials(lists[0])
    found = [start, everything] if budget.accepts(everything.metrics) else [start]
    if len(found) == 1:
        for order in lists:
            low, high = 0, len(order)  # `low` modules are within the budget, `high` are not
            while high - low > 1:
                middle = (low + high) // 2
                trial = trials(order[:middle])
                if budget.accepts(trial.metrics):
                    low = middle
                    found.append(trial)
                else:
                    high = middle
    return min(found, key=lambda trial: trial.seconds)


def _improved(
    best: TriedMix, rows: Sequence[Sensitivity], trials: MixRunner, budget: Budget
) -> TriedMix:
    """`best` with single modules added, exchanged or removed while that makes it faster."""
    looks = tried = 0
    improved = True
    while improved:
        improved = False
        for changed in _neighbours(best, rows, budget):
            looks += 1
            if looks > _LOOKS:
                return best
            if trials.seconds(changed) >= best.seconds:
                continue
            if not trials.has(changed):
                if tried == _TRIALS:
                    return best
                tried += 1
            trial = trials(changed)
            if budget.accepts(trial.metrics):
                best, improved = trial, True
                break
    return best


def _neighbours(
    best: TriedMix, rows: Sequence[Sensitivity], budget: Budget
) -> Iterator[tuple[str, ...]]:
    """Sets of modules near those of `best`, whose error may be within the budget, the most
    promising first: one more, one for another, one less."""
    squares = {row.module: row.metrics.rel_l2**2 for row in rows}
    saved = {row.module: row.seconds_saved for row in rows}
    inside = list(best.changed)
    outside = sorted(saved.keys() - best.changed, key=lambda new: (-saved[new], new))
    room = _SLACK * budget.rel_l2**2 - best.metrics.rel_l2**2
    for new in outside:
        if squares[new] <= room:
            yield (*inside, new)
    pairs = [(new, old) for new in outside for old in inside]
    for new, old in sorted(pairs, key=lambda pair: saved[pair[1]] - saved[pair[0]]):
        if squares[new] - squares[old] <= room:
            yield (*(module for module in inside if module != old), new)
    for old in inside:
        yield tuple(module for module in inside if module != old)
