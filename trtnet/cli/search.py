"""``trtnet search``: the fastest mix of precisions within a budget, as a policy."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.paths import output_file, word
from trtnet.cli.policy import save
from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.search_flags import metrics_json, parser, row_json, set_up
from trtnet.cli.sensitivity import print_rows
from trtnet.cli.streams import say
from trtnet.files.roles import NamedFile, Place, Use
from trtnet.precision.table import QUANTIZED
from trtnet.search.budget import Budget
from trtnet.search.journal import SearchJournal

if TYPE_CHECKING:
    from trtnet.pipeline.search_setup import SearchSetup
    from trtnet.search.result import SearchResult, TriedMix

_ITEMS = 64


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Searches, prints the result, and writes the policy."""
    from trtnet.search.finding import search
    from trtnet.search.plotting import plot_search
    from trtnet.search.sensitivities import job

    budget = Budget.parse(arguments.budget)
    output = arguments.output
    stream = human_stream(arguments.json)
    progress = Progress(stream)
    setup = set_up(arguments, progress)
    ranked_by = setup.data.head(arguments.rank_items)
    journal = SearchJournal(
        arguments.journal or _default_journal(output),
        job(setup.subject, setup.data, ranked_by),
    )
    with progress.step("search") as update:
        found = search(
            setup.subject,
            setup.data,
            budget,
            ranked_by=ranked_by,
            journal=journal,
            progress=lambda done, total, what: update(f"{done}/{total} {what}"),
        )
    save(found.policy, output)
    _print(found, setup, budget, stream)
    model = shlex.join([arguments.target, *(f"--input={text}" for text in arguments.model_input)])
    data = f" --calib-data {shlex.quote(arguments.data)}" if found.policy.uses(*QUANTIZED) else ""
    say(f"written to {output}: trtnet zoo {model} --policy {output}{data}", stream=stream)
    if arguments.plot is not None:
        plot_search(found, budget, f"{setup.name} in {setup.subject.to}: {budget}", arguments.plot)
        say(f"plotted to {arguments.plot}", stream=stream)
    if arguments.json is not None:
        write_json(_as_json(found, setup, budget), arguments.json)
    return 0


def _print(found: SearchResult, setup: SearchSetup, budget: Budget, stream: TextIO) -> None:
    subject, best = setup.subject, found.best
    left = [row for row in found.sensitivities if row.module not in best.changed]
    if left:
        say("", f"left in {subject.rest}, each as it does alone in {subject.to}", stream=stream)
        print_rows(left, stream)
    none, every = found.trials[:2]
    say("", f"{len(best.changed)} of {len(subject.modules)} modules in {subject.to}, "
        f"{budget.metric} {budget.value(best.metrics):.6g} ({budget}), {setup.data.items} items, "
        f"{len(found.trials)} networks tried", stream=stream)  # fmt: skip
    say(f"at least {1e6 * best.seconds:.2f} µs on {subject.ceilings.name}; none in "
        f"{subject.to} {1e6 * none.seconds:.2f}, all {1e6 * every.seconds:.2f}",
        stream=stream)  # fmt: skip


def _as_json(found: SearchResult, setup: SearchSetup, budget: Budget) -> dict[str, Any]:
    return {
        "model": setup.name,
        "to": setup.subject.to,
        "gpu": setup.subject.ceilings.key,
        "items": setup.data.items,
        "budget": str(budget),
        "policy": found.policy.as_dict(),
        "best": _trial_json(found.best),
        "trials": [_trial_json(trial) for trial in found.trials],
        "modules": [row_json(row) for row in found.sensitivities],
    }


def _trial_json(trial: TriedMix) -> dict[str, Any]:
    return {
        "changed": list(trial.changed),
        **metrics_json(trial.metrics),
        "seconds": trial.seconds,
    }


def _default_journal(output: Path) -> Path:
    return output.with_name(f"{output.name}.journal")


def _journal(arguments: argparse.Namespace) -> Iterator[NamedFile]:
    """The journal where no flag names it."""
    if arguments.journal is None:
        path = _default_journal(arguments.output)
        yield NamedFile("-o", path, Use.UPDATE, "the journal beside the policy", Place.APPEND)


def _parser() -> Parser:
    made = parser("search", "The fastest mix of precisions within a budget.", _ITEMS)
    flag = Group(made, "search")
    flag("--budget", required=True, type=word, metavar="B",
         help="cosine>=0.999, sqnr>=30dB or top1_drop<=0.3 (points), against FP32")  # fmt: skip
    flag("--rank-items", type=positive, default=8, metavar="N",
         help="how many items rank the modules; default 8")  # fmt: skip
    made.add_argument("-o", dest="output", type=output_file, required=True, metavar="FILE",
                      help="the policy, as TOML")  # fmt: skip
    made.following = _journal
    return made
