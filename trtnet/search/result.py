"""Results of a search: the mixes that it tried, and the one that it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet.precision.budget import Budget
from trtnet.precision.policy import Policy
from trtnet.records import Row
from trtnet.search.data import Data
from trtnet.search.journal import SearchJournal
from trtnet.search.metrics import Metrics
from trtnet.search.mixable_network import MixableNetwork

if TYPE_CHECKING:
    from trtnet.search.sensitivities import Sensitivity


@dataclass(frozen=True)
class TriedMix:
    """A mix of precisions that was measured.

    Attributes:
        changed: the modules that were changed, in the order of the model.
        metrics: of the real network, on all of the data.
        seconds: its least time, by the roofline.
    """

    changed: tuple[str, ...]
    metrics: Metrics
    seconds: float

    def row(self) -> Row:
        """The mix as a row, with the names of docs/study.md."""
        return {
            "modules": len(self.changed),
            "changed": [*self.changed],
            "bound_s": self.seconds,
            **self.metrics.row(),
        }


@dataclass(frozen=True)
class SearchResult:
    """The result of :func:`trtnet.search.search`. ``str(result)`` says how sure its figure is.

    Attributes:
        policy: the fastest within the budget.
        best: the mix of that policy, with its measurements.
        trials: all mixes that were measured, in order; the first changes no module, the second all.
        sensitivities: of each module alone, the most sensitive first.
        subject, data: what was searched, and on what.
        budget: that was kept, with its margin.
        journal: all that was measured.
    """

    policy: Policy
    best: TriedMix
    trials: tuple[TriedMix, ...]
    sensitivities: tuple[Sensitivity, ...]
    subject: MixableNetwork
    data: Data
    budget: Budget
    journal: SearchJournal

    def __str__(self) -> str:
        """How many modules are changed, what it costs and saves, and how sure that is."""
        subject, best, none = self.subject, self.best, self.trials[0]
        spread = best.metrics.spread
        sure = f" ± {spread.sqnr_db:.1f}" if spread and self.budget.metric == "sqnr" else ""
        return (
            f"{len(best.changed)} of {len(subject.modules)} modules in {subject.to}: "
            f"{self.budget.describe(best.metrics)}{sure} on {self.data.items} items "
            f"({self.budget}), at least {1e6 * best.seconds:.2f} µs on {subject.ceilings.name}, "
            f"{1e6 * none.seconds:.2f} with none"
        )

    def rows(self) -> list[Row]:
        """One row for each module, in the order of the model, with the names of docs/study.md:
        whether the mix changes it, its error alone and what it saves."""
        alone = {row.module: row for row in self.sensitivities}
        chosen = {*self.best.changed}
        precision = {True: self.subject.to, False: self.subject.rest}
        return [
            alone[module].row()
            | {"changed": module in chosen, "precision": precision[module in chosen]}
            for module in self.subject.modules
        ]

    def trial_rows(self) -> list[Row]:
        """One row for each mix that was measured, in order: ``trial`` is its number, ``accepted``
        whether it is within the budget, ``front`` whether none is both faster and more exact."""
        front = {id(trial) for trial in pareto(self.trials)}
        return [
            {"trial": number, **trial.row(), "accepted": self.budget.accepts(trial.metrics),
             "front": id(trial) in front, "best": trial.changed == self.best.changed}
            for number, trial in enumerate(self.trials)
        ]  # fmt: skip


def pareto(trials: Sequence[TriedMix]) -> list[TriedMix]:
    """Those of `trials` that no other beats in both time and error, the fastest first."""
    front: list[TriedMix] = []
    for trial in sorted(trials, key=lambda trial: (trial.seconds, trial.metrics.rel_l2)):
        if not front or trial.metrics.rel_l2 < front[-1].metrics.rel_l2:
            front.append(trial)
    return front
