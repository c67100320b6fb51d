"""``trtnet sensitivity``: what changing each module alone does, and what it saves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.search_flags import parser, row_json, set_up
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.search.journal import SearchJournal

if TYPE_CHECKING:
    from trtnet.search.sensitivities import Sensitivity

_ITEMS = 8
_COLUMNS = (
    *(("module", "left"), ("kind", "left"), ("SQNR dB", "right"), ("cosine", "right")),
    *(("top-1 drop", "right"), ("µs saved", "right")),
)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    text = "The error and the gain of changing each module alone, the most sensitive first."
    return run(parser("sensitivity", text, _ITEMS).parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Measures every module, prints them, and writes what is asked for."""
    from trtnet.search.plotting import plot_sensitivity
    from trtnet.search.sensitivities import job, sensitivity

    stream = human_stream(arguments.json)
    progress = Progress(stream)
    setup = set_up(arguments, progress)
    journal = SearchJournal(arguments.journal, job(setup.subject, setup.data))
    with progress.step("measure") as update:
        rows = sensitivity(
            setup.subject,
            setup.data,
            journal=journal,
            progress=lambda done, total, module: update(f"{done}/{total} {module}"),
        )
    print_rows(rows, stream)
    subject = setup.subject
    say("", f"{len(rows)} modules, each alone in {subject.to}; {setup.data.items} items; times of "
        f"batch {arguments.batch} on {subject.ceilings.name}", stream=stream)  # fmt: skip
    if arguments.plot is not None:
        plot_sensitivity(rows, f"{setup.name}: each module alone in {subject.to}", arguments.plot)
        say(f"plotted to {arguments.plot}", stream=stream)
    if arguments.json is not None:
        report = {
            "model": setup.name,
            "to": subject.to,
            "gpu": subject.ceilings.key,
            "items": setup.data.items,
            "modules": [row_json(row) for row in rows],
        }
        write_json(report, arguments.json)
    return 0


def print_rows(rows: Sequence[Sensitivity], stream: TextIO) -> None:
    """Prints a table of `rows`, one module each."""
    cells = []
    for row in rows:
        drop = row.metrics.top1_drop
        cells.append((row.module, row.kind, f"{row.metrics.sqnr_db:.1f}",
                      f"{row.metrics.cosine:.6f}", "" if drop is None else f"{drop:.2f}",
                      f"{1e6 * row.seconds_saved:.3f}"))  # fmt: skip
    table(_COLUMNS, cells, stream)
