"""Plots, as PNG or SVG. They need matplotlib, and no display."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet.errors import UsageError
from trtnet.extras import install
from trtnet.files import atomic_write
from trtnet.precision.budget import Budget
from trtnet.search.plot_format import check_format
from trtnet.search.result import SearchResult, TriedMix, pareto

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trtnet.search.sensitivities import Sensitivity

_ROW = 0.22  # inches, of a bar with its name


def plot_sensitivity(rows: Sequence[Sensitivity], title: str, path: str | os.PathLike[str]) -> None:
    """Plots two bars for each module: the signal-to-noise ratio with it alone changed, the lowest
    on top, and the time saved.

    Raises:
        UsageError: matplotlib is not installed, or a path of another format.
    """
    figure = _figure(path, 9.0, 1.5 + _ROW * len(rows))
    ratio, saved = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    finite = [row.metrics.sqnr_db for row in rows if math.isfinite(row.metrics.sqnr_db)]
    most = max(finite, default=0.0)
    places = range(len(rows))
    ratio.barh(places, [min(row.metrics.sqnr_db, most) for row in rows], color="#3b6ea5")
    ratio.set_yticks(places, [row.module for row in rows], fontsize=8)
    ratio.set_ylim(len(rows) - 0.4, -0.6)
    ratio.set_xlabel("output SQNR in dB")
    saved.barh(places, [1e6 * row.seconds_saved for row in rows], color="#c8793a")
    saved.set_xlabel("µs saved, by the roofline")
    figure.suptitle(title)
    _save(figure, path)


def plot_search(
    found: SearchResult, budget: Budget | str, title: str, path: str | os.PathLike[str]
) -> None:
    """Plots the time and the error of every mix that was tried, the Pareto front, the budget, and
    the mix that was chosen.

    Raises:
        UsageError: matplotlib is not installed, or a path of another format.
    """
    budget = Budget.parse(budget) if isinstance(budget, str) else budget
    figure = _figure(path, 7.0, 5.0)
    axes = figure.subplots()
    values = {trial: budget.value(trial.metrics) for trial in found.trials}
    _dots(axes, found.trials, values, marker="o", color="#9aa7b5", label="tried")
    front = pareto(found.trials)
    axes.step(*_points(front, values), where="post", color="#3b6ea5", label="best of them")
    axes.axhline(budget.limit, color="#a33", linestyle="--", label=str(budget))
    _dots(axes, [found.best], values, marker="*", color="#c8793a", s=160, label="chosen", zorder=3)
    axes.set_xlabel("least time in µs, by the roofline")
    axes.set_ylabel({"sqnr": "SQNR in dB", "top1_drop": "top-1 drop in points",
                       "map_drop": "mAP drop", "matched": "share of matched boxes"}.get(
        budget.metric, budget.metric
    ))  # fmt: skip
    axes.legend()
    figure.suptitle(title)
    _save(figure, path)


def _dots(
    axes: Any, trials: Sequence[TriedMix], values: dict[TriedMix, float], **style: Any
) -> None:
    axes.scatter(*_points(trials, values), **style)


def _points(
    trials: Sequence[TriedMix], values: dict[TriedMix, float]
) -> tuple[list[float], list[float]]:
    shown = [trial for trial in trials if math.isfinite(values[trial])]
    return [1e6 * trial.seconds for trial in shown], [values[trial] for trial in shown]


def _figure(path: str | os.PathLike[str], width: float, height: float) -> Figure:
    check_format(path)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib", got=error, fix=install("plot")) from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    form = Path(path).suffix.lower().removeprefix(".")
    try:
        with atomic_write(path) as file:
            figure.savefig(file, format=form, dpi=150)
    except OSError as error:
        raise UsageError(f"{path} cannot be written", got=error) from error
