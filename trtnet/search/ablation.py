"""Ablation of a mix: what each of its lowered modules costs in error and saves in time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from trtnet.errors import UsageError
from trtnet.records import Records, Row
from trtnet.search.data import Data
from trtnet.search.finding import MixRunner
from trtnet.search.journal import SearchJournal
from trtnet.search.metrics import Metrics
from trtnet.search.mixable_network import MixableNetwork
from trtnet.search.result import SearchResult

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Ablation:
    """A mix with one group of its changed modules set back.

    Attributes:
        modules: the group, in the order of the model.
        metrics: of the network without this change, all other changes kept, on all of the data.
        seconds: its least time, by the roofline.
        seconds_added: how much more that is than the time of the mix; negative where the group
            makes the mix slower, because of conversions.
    """

    modules: tuple[str, ...]
    metrics: Metrics
    seconds: float
    seconds_added: float

    def row(self) -> Row:
        """The group as a row, with the names of docs/study.md; metrics are without it."""
        return {
            "module": self.modules[0] if len(self.modules) == 1 else None,
            "modules": [*self.modules],
            **self.metrics.row(),
            "bound_s": self.seconds,
            "saved_marginal_s": self.seconds_added,
        }


def ablate(
    subject: MixableNetwork | SearchResult,
    data: Data | None = None,
    changed: Collection[str] | None = None,
    *,
    groups: Iterable[Collection[str]] | None = None,
    journal: SearchJournal | None = None,
    progress: Progress | None = None,
) -> Records[Ablation]:
    """Sets each group of the modules `changed` back alone; the one that lowers the error most
    comes first.

    Args:
        subject: what :func:`trtnet.search.search` found, which needs no more; or a network.
        data: what the error is measured on; by default what the search was on.
        changed: the changed modules of a mix; by default of the one that the search found.
        groups: of these modules; by default each module is a group.
        journal: earlier results of a search on the same data, which are not measured again.
        progress: called after each group with what is done, in words.

    Raises:
        UsageError: a module that cannot be changed, or a group with a module that is not changed.
    """
    if isinstance(subject, SearchResult):
        data = subject.data if data is None else data
        changed = subject.best.changed if changed is None else changed
        if journal is None and data is subject.data:
            journal = subject.journal
        subject = subject.subject
    if data is None or changed is None:
        raise UsageError(
            "an ablation of a network needs data and the changed modules of a mix",
            fix="ablate(network, data, changed), or ablate(search(...))",
        )
    names = subject.in_order(changed)
    chosen = [(name,) for name in names] if groups is None else [*map(subject.in_order, groups)]
    _check(subject, changed, chosen if groups is None else groups)
    runner = MixRunner(subject, data, SearchJournal(None, "") if journal is None else journal)
    mix = runner(names)
    found = []
    for group in chosen:
        trial = runner([name for name in names if name not in group])
        added = trial.seconds - mix.seconds
        found.append(Ablation(group, trial.metrics, trial.seconds, added))
        if progress:
            progress(f"{len(found)} of {len(chosen)} set back, {group[0]}")
    return Records(sorted(found, key=lambda row: row.metrics.rel_l2))


def _check(
    subject: MixableNetwork, changed: Collection[str], groups: Iterable[Collection[str]]
) -> None:
    wrong = sorted(set(changed) - {*subject.modules})
    if wrong:
        raise UsageError(
            f"{wrong[0]} is no module that can be {subject.to}",
            expected="modules of MixableNetwork.modules",
        )
    for group in groups:
        other = sorted(set(group) - {*changed})
        if other or not group:
            raise UsageError(
                "a group of an ablation holds changed modules of the mix",
                expected=f"some of the {len(changed)} changed modules",
                got=other[0] if other else "an empty group",
            )
