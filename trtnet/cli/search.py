"""``trtnet search``: the fastest mix of precisions within a budget, as a policy."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trtnet.cli.commands import build_command, table_of
from trtnet.cli.flags import Group, Parser, positive, real
from trtnet.cli.paths import input_file, output_file, word
from trtnet.cli.policy import save
from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.search_flags import (
    about_json,
    data_lines,
    metrics_json,
    parser,
    row_json,
    set_up,
)
from trtnet.cli.sensitivity import metric_cells, metric_columns, print_rows, told_metrics
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Place, Use
from trtnet.precision.budget import Budget
from trtnet.precision.table import QUANTIZED
from trtnet.search.journal import SearchJournal

if TYPE_CHECKING:
    from trtnet.pipeline.search_setup import SearchSetup
    from trtnet.search.ablation import Ablation
    from trtnet.search.data import Data
    from trtnet.search.result import SearchResult, TriedMix
    from trtnet.search.sensitivities import Sensitivity

_ITEMS = 64


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(search_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Searches, prints the result, and writes the policy with the ranges that it needs."""
    from trtnet.search.finding import search
    from trtnet.search.plotting import plot_search

    budget = Budget.parse(arguments.budget)
    output = arguments.output
    stream = human_stream(arguments.json)
    progress = Progress(stream)
    setup = set_up(arguments, progress)
    subject, data = setup.subject, setup.data
    ranked_by = data.head(arguments.rank_items)
    journal = _open_journal(arguments, setup, ranked_by, stream)
    known = _known_sensitivities(arguments, setup)
    with progress.step("search") as update:
        found = search(
            subject,
            data,
            budget,
            ranked_by=ranked_by,
            sensitivities=known,
            margin=arguments.margin,
            journal=journal,
            progress=update,
        )
    ablations = _ablate(found, setup, journal, progress) if arguments.ablate else []
    save(found.policy, output)
    quantizes = found.policy.uses(*QUANTIZED)
    if quantizes and subject.calibration is not None:
        subject.calibration.save(table_of(output))
    _print(found, setup, budget, stream)
    if ablations:
        print_ablations(ablations, found.best, setup, stream)
    command = build_command(arguments, data.items, quantizes)
    if arguments.plot is not None:
        plot_search(found, budget, f"{setup.name} in {subject.to}: {budget}", arguments.plot)
        say(f"plotted to {arguments.plot}", stream=stream)
    ranges = f", its ranges to {table_of(output)}" if quantizes else ""
    say(f"written to {output}, with the budget{ranges}", "build and verify it with", command,
        stream=stream)  # fmt: skip
    if arguments.json is not None:
        report = _as_json(found, ablations, setup, budget)
        write_json({**report, "command": command}, arguments.json)
    return 0


def _open_journal(
    arguments: argparse.Namespace, setup: SearchSetup, ranked_by: Data, stream: TextIO
) -> SearchJournal:
    """The journal of this search. One beside the policy that is of another search makes room, as
    the policy does; one that a flag names is refused."""
    from trtnet.search.sensitivities import job
    from trtnet.search.stored_sensitivities import holds_sensitivities

    path = arguments.journal or _default_journal(arguments.output)
    its_job = job(setup.subject, setup.data, ranked_by)
    try:
        return SearchJournal(path, its_job)
    except UsageError as error:
        if holds_sensitivities(path):
            raise UsageError(
                f"{path} is the journal of trtnet sensitivity, not of a search",
                fix=f"--sensitivity {path} takes its results; --journal keeps those of the search",
            ) from error
        if arguments.journal is not None:
            raise
    SearchJournal(path, None).remove()  # raises for what is no journal
    say(f"{path} was of another search: begun anew", stream=stream)
    return SearchJournal(path, its_job)


def _known_sensitivities(
    arguments: argparse.Namespace, setup: SearchSetup
) -> list[Sensitivity] | None:
    """Those in the file that ``--sensitivity`` names."""
    from trtnet.search.stored_sensitivities import stored_sensitivities

    if arguments.sensitivity is None:
        return None
    return stored_sensitivities(arguments.sensitivity, setup.subject, setup.load)


def _ablate(
    found: SearchResult, setup: SearchSetup, journal: SearchJournal, progress: Progress
) -> list[Ablation]:
    from trtnet.search.ablation import ablate

    with progress.step("ablate") as update:
        return ablate(
            setup.subject, setup.data, found.best.changed, journal=journal, progress=update
        )


def _print(found: SearchResult, setup: SearchSetup, budget: Budget, stream: TextIO) -> None:
    subject, best = setup.subject, found.best
    left = [row for row in found.sensitivities if row.module not in best.changed]
    if left:
        say("", f"left in {subject.rest}, each as it does alone in {subject.to}", stream=stream)
        print_rows(left, setup.data, stream)
    none, every = found.trials[:2]
    spread = best.metrics.spread
    sure = (
        []
        if spread is None
        else [f"SQNR has a standard error of {spread.sqnr_db:.2g} dB over {spread.items} items"]
    )
    say("", *data_lines(setup), f"{len(best.changed)} of {len(subject.modules)} modules in "
        f"{subject.to}, {budget.describe(best.metrics)} ({budget}), {setup.data.items} items, "
        f"{len(found.trials)} networks tried", *sure, stream=stream)  # fmt: skip
    say(f"at least {1e6 * best.seconds:.2f} µs on {subject.ceilings.name}; none in "
        f"{subject.to} {1e6 * none.seconds:.2f}, all {1e6 * every.seconds:.2f}",
        stream=stream)  # fmt: skip


def print_ablations(
    ablations: Sequence[Ablation], mix: TriedMix, setup: SearchSetup, stream: TextIO
) -> None:
    """Prints a table of `ablations` of `mix`, below what the mix itself has."""
    subject, data = setup.subject, setup.data
    told = told_metrics(data, mix.metrics)
    columns = [("set back", "left"), *metric_columns(told), ("µs", "right"), ("µs added", "right")]
    first = ("(nothing)", *metric_cells(mix.metrics, told), f"{1e6 * mix.seconds:.2f}", "")
    rows = [
        (", ".join(row.modules), *metric_cells(row.metrics, told), f"{1e6 * row.seconds:.2f}",
         f"{1e6 * row.seconds_added:+.3f}")
        for row in ablations
    ]  # fmt: skip
    say("", f"the mix with one module set back to {subject.rest}", stream=stream)
    table(columns, [first, *rows], stream)
    say("", stream=stream)


def _as_json(
    found: SearchResult, ablations: Sequence[Ablation], setup: SearchSetup, budget: Budget
) -> dict[str, Any]:
    data = setup.data
    return {
        **about_json(setup),
        "budget": str(budget),
        "margin": found.budget.margin,
        "policy": found.policy.as_dict(),
        "best": _trial_json(found.best, data),
        "trials": [_trial_json(trial, data) for trial in found.trials],
        "modules": [row_json(row, data) for row in found.sensitivities],
        "ablations": [
            {
                "modules": [*row.modules],
                **metrics_json(row.metrics, data),
                "seconds": row.seconds,
                "seconds_added": row.seconds_added,
            }
            for row in ablations
        ],
    }


def _trial_json(trial: TriedMix, data: Data) -> dict[str, Any]:
    return {
        "changed": list(trial.changed),
        **metrics_json(trial.metrics, data),
        "seconds": trial.seconds,
    }


def _default_journal(output: Path) -> Path:
    return output.with_name(f"{output.name}.journal")


def _beside_the_policy(arguments: argparse.Namespace) -> Iterator[NamedFile]:
    """The ranges, and the journal where no flag names it."""
    if arguments.to in QUANTIZED:
        table = table_of(arguments.output)
        yield NamedFile("-o", table, Use.WRITE, "the ranges beside the policy", Place.FOLDER)
    if arguments.journal is None:
        path = _default_journal(arguments.output)
        yield NamedFile("-o", path, Use.UPDATE, "the journal beside the policy", Place.APPEND)


def search_parser() -> Parser:
    """The parser of ``trtnet search``."""
    made = parser("search", "The fastest mix of precisions within a budget.", _ITEMS)
    flag = Group(made, "search")
    flag("--budget", required=True, type=word, metavar="B",
         help="cosine>=0.999, sqnr>=30dB or top1_drop<=0.3 (points), of detectors map_drop<=0.003 "
         "or matched>=0.99 (fractions), against FP32")  # fmt: skip
    flag("--margin", type=real(0, 100), default=0.0, metavar="Z",
         help="by how many of its standard errors the figure has to be within the budget; default "
         "0; 1.64 for about 95 %% of other data like this")  # fmt: skip
    flag("--rank-items", type=positive, default=8, metavar="N",
         help="how many items rank the modules; default 8")  # fmt: skip
    flag("--sensitivity", type=input_file, metavar="FILE",
         help="a journal of trtnet sensitivity, whose results rank the modules")  # fmt: skip
    flag("--ablate", action="store_true",
         help="also measure the mix with each of its modules set back alone")  # fmt: skip
    made.add_argument("-o", dest="output", type=output_file, required=True, metavar="FILE",
                      help="the policy, as TOML")  # fmt: skip
    made.following = _beside_the_policy
    return made
