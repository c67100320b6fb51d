"""Results of a search: the mixes that it tried, and the one that it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet.precision.policy import Policy
from trtnet.search.metrics import Metrics

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


@dataclass(frozen=True)
class SearchResult:
    """The result of :func:`trtnet.search.search`.

    Attributes:
        policy: the fastest within the budget.
        best: the mix of that policy, with its measurements.
        trials: all mixes that were measured, in order; the first changes no module, the second all.
        sensitivities: of each module alone, the most sensitive first.
    """

    policy: Policy
    best: TriedMix
    trials: tuple[TriedMix, ...]
    sensitivities: tuple[Sensitivity, ...]


def pareto(trials: Sequence[TriedMix]) -> list[TriedMix]:
    """Those of `trials` that no other beats in both time and error, the fastest first."""
    front: list[TriedMix] = []
    for trial in sorted(trials, key=lambda trial: (trial.seconds, trial.metrics.rel_l2)):
        if not front or trial.metrics.rel_l2 < front[-1].metrics.rel_l2:
            front.append(trial)
    return front
