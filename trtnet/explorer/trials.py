"""What a search has measured: the effect of each module alone, and the mixes that it tried."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet.errors import UsageError
from trtnet.explorer.columns import number, transposed
from trtnet.explorer.costs import known_gpus
from trtnet.explorer.modules import ModuleTree, classes_of
from trtnet.explorer.subject import Subject
from trtnet.graph import Gpu
from trtnet.network import Network
from trtnet.precision.policy import Policy
from trtnet.precision.table import QUANTIZED
from trtnet.search.journal import (
    MeasuredOn,
    SearchedNetwork,
    SearchJournal,
    StoredSensitivity,
    StoredTrial,
)
from trtnet.search.metrics import Metrics
from trtnet.search.mixable_network import TARGETS
from trtnet.search.result import SearchResult, TriedMix, pareto
from trtnet.studies.errors import ModuleError

if TYPE_CHECKING:
    from trtnet.search.sensitivities import Sensitivity

_METRICS = ("rel_l2", "sqnr_db", "cosine", "top1_drop", "map_drop", "matched")
_MODULE, _TRIAL = "module ", "trial "


@dataclass(frozen=True)
class Measured:
    """The measurements of a search.

    Attributes:
        sensitivities: of each module alone.
        trials: the mixes that were measured, in order.
        on: what the sensitivities follow from; ``None`` where that is not recorded.
    """

    sensitivities: tuple[Sensitivity, ...] = ()
    trials: tuple[TriedMix, ...] = ()
    on: MeasuredOn | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        """The modules that were changed, as far as is known."""
        rows = [row.module for row in self.sensitivities]
        return tuple(dict.fromkeys((*rows, *(m for one in self.trials for m in one.changed))))


def measured_in(found: Any, subject: Subject) -> Measured:
    """The measurements in `found`.

    Args:
        found: a :class:`trtnet.search.SearchResult`, or the path of a journal of
            ``trtnet search`` or ``trtnet sensitivity``, which is only read.
        subject: that they are shown with.

    Raises:
        UsageError: no journal, or one of another network, as far as it says of which.
    """
    if isinstance(found, SearchResult):
        if subject.policy != found.policy:
            raise UsageError(
                "the search found another policy than that of the network",
                expected=str(found.policy),
                got=str(subject.policy),
                fix="Recipe(MODEL, precision=found.policy)",
            )
        _require_weights("the search", found.subject.weights_sha256, subject)
        return Measured(found.sensitivities, found.trials)
    if isinstance(found, str | os.PathLike):
        return _read(Path(found), subject)
    raise UsageError(
        "these are no measurements of a search",
        expected="a SearchResult, or the path of a journal",
        got=type(found).__name__,
    )


def _read(path: Path, subject: Subject) -> Measured:
    journal = SearchJournal(path, None)
    from trtnet.search.sensitivities import Sensitivity  # needs torch

    known = set(classes_of(subject.roots))
    rows, trials, keys = [], [], journal.keys()
    for key in keys:
        if key.startswith(_MODULE):
            name = key[len(_MODULE) :]
            stored = journal.get(key, StoredSensitivity)
            if stored is not None:
                _require(path, [name], known)
                rows.append(Sensitivity(name, "", stored.plain, stored.seconds_saved))
        elif key.startswith(_TRIAL):
            names = key[len(_TRIAL) :].split()
            trial = journal.get(key, StoredTrial)
            if trial is not None:
                _require(path, names, known)
                trials.append(TriedMix(tuple(names), trial.metrics.plain, trial.seconds))
    on = journal.get("measured on", MeasuredOn)
    searched = on or journal.get("network", SearchedNetwork)  # earlier journals do not say it
    if searched is not None:
        _require_weights(str(path), searched.weights, subject)
    return Measured(tuple(rows), tuple(trials), on)


def _require_weights(what: str, weights: str, subject: Subject) -> None:
    network = subject.network
    if network is not None and network.weights_sha256 != weights:
        raise UsageError(
            f"{what} was measured with other weights",
            expected=f"weights of the SHA-256 {weights}",
            got=network.weights_sha256,
            fix="give the weights that were given to the search: --weights (weights=)",
        )


def _require(path: Path, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(
                f"{path} is of another network: it changes {name}",
                expected="modules of this network",
                got=name,
                fix="name the model that was searched",
            )


def trials_json(found: Measured, subject: Subject, tree: ModuleTree, gpu: Gpu) -> dict[str, Any]:
    """The measurements for the page, beside the policy.

    Args:
        found: the measurements.
        subject: the network; its policy says what was changed to what.
        tree: of its modules.
        gpu: one whose times they may be, besides those of the table.

    Raises:
        UsageError: a policy that changes modules to nothing that a search changes them to.
    """
    policy, network = subject.policy, subject.network
    to = "" if policy is None else _target(found, policy)
    if policy is None or network is None or to not in TARGETS:
        raise UsageError(
            "the policy of the network does not say what the search changed modules to",
            expected=f"a policy of trtnet search, or one of {', '.join(TARGETS)}",
            got=str(policy),
            fix="--policy FILE (precision=Policy.load(FILE)), of the policy that was found",
        )
    base = found.on.base if found.on else policy.base
    kinds = _kinds(policy, network)
    front = pareto(found.trials)
    best = _best(found, policy, kinds, to)
    times = [] if best is None else _gpus_with(found.trials[best].seconds, subject, gpu)
    if found.on is None and not times:
        raise UsageError(
            "the network is none of the mixes of the search",
            expected="the policy that was found, and the shape and batch of the search",
            got=str(policy),
            fix="--policy FILE --batch N (Recipe(MODEL, precision=Policy.load(FILE), batch=N))",
        )
    return {
        "to": to,
        "base": base,
        "rest": base if to in QUANTIZED else "fp32",
        "sensitivities": transposed(
            ("module", "kind", *_METRICS, "saved_s"),
            [
                (tree.row(row.module), kinds.get(row.module, row.kind), *_numbers(row.metrics),
                 row.seconds_saved)
                for row in found.sensitivities
            ],
        ) if found.sensitivities else None,
        "trials": transposed(
            ("changed", *_METRICS, "seconds", "front"),
            [
                ([tree.row(name) for name in one.changed], *_numbers(one.metrics), one.seconds,
                 one in front)
                for one in found.trials
            ],
        ) if found.trials else None,
        "best": best,
        "gpus": times,
        "budget": None if policy.budget is None else {
            "metric": policy.budget.metric, "limit": policy.budget.limit, "text": str(policy.budget)
        },
        "measured_on": None if found.on is None else {
            name: getattr(found.on, name) for name in ("data", "items", "gpu", "method", "weights")
        },
    }  # fmt: skip


def errors_alone(found: Measured, subject: Subject) -> dict[str, ModuleError]:
    """The error alone of the modules that `subject` has in the precision that a search changes
    them to, for a study; what each adds to the mix was not measured."""
    policy, network = subject.policy, subject.network
    if policy is None or network is None:
        return {}
    changed = _changed(found, policy, _kinds(policy, network), _target(found, policy))
    return {
        row.module: ModuleError(
            row.metrics.rel_l2**2, math.nan, math.nan, row.seconds_saved, None
        )
        for row in found.sensitivities
        if row.module in changed
    }  # fmt: skip


def _target(found: Measured, policy: Policy) -> str:
    """What the search changed modules to."""
    return found.on.to if found.on else policy.compute


def _kinds(policy: Policy, network: Network) -> dict[str, str]:
    return {row.module: row.kind for row in policy.explain(network)}


def _changed(found: Measured, policy: Policy, kinds: Mapping[str, str], to: str) -> set[str]:
    """Those of the candidates that `policy` changes to `to`."""
    return {
        name for name in found.candidates if policy.precision_of(name, kinds.get(name, "")) == to
    }


def _best(found: Measured, policy: Policy, kinds: Mapping[str, str], to: str) -> int | None:
    """The number of the trial that is the network itself; ``None`` where none is."""
    changed = _changed(found, policy, kinds, to)
    return next((i for i, one in enumerate(found.trials) if {*one.changed} == changed), None)


def _gpus_with(seconds: float, subject: Subject, gpu: Gpu) -> list[str]:
    """The GPUs on which the bound of `subject` is `seconds`: those that the times of a search may
    be of. None where its shape or batch was another."""
    found = []
    for key, each in known_gpus(gpu).items():
        try:
            bound = subject.cost.bound(each).seconds
        except UsageError:  # a precision that the GPU, or its table, lacks
            continue
        if math.isclose(bound, seconds, rel_tol=1e-12):
            found.append(key)
    return found


def _numbers(metrics: Metrics) -> list[float | None]:
    values = {**dataclasses.asdict(metrics), "sqnr_db": metrics.sqnr_db}
    return [number(values[name]) for name in _METRICS]
