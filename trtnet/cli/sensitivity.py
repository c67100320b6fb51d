"""``trtnet sensitivity``: what changing each module alone does, and what it saves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.search_flags import about_json, data_lines, parser, row_json, set_up
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.search.journal import SearchJournal

if TYPE_CHECKING:
    from trtnet.search.data import Data
    from trtnet.search.metrics import Metrics
    from trtnet.search.sensitivities import Sensitivity

_ITEMS = 8
_TOLD = {  # heading and form of the metrics that not all networks and data have
    "top1_drop": ("top-1 drop", ".2f"),
    "map_drop": ("mAP drop", ".4f"),
    "matched": ("matched", ".4f"),
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    text = "The error and the gain of changing each module alone, the most sensitive first."
    return run(parser("sensitivity", text, _ITEMS).parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Measures every module, prints them, and writes what is asked for."""
    from trtnet.search.plotting import plot_sensitivity
    from trtnet.search.sensitivities import job, sensitivity
    from trtnet.search.stored_sensitivities import record

    stream = human_stream(arguments.json)
    progress = Progress(stream)
    setup = set_up(arguments, progress)
    subject, data = setup.subject, setup.data
    journal = SearchJournal(arguments.journal, job(subject, data))
    record(journal, subject, data)
    with progress.step("measure") as update:
        rows = sensitivity(subject, data, journal=journal, progress=update)
    print_rows(rows, data, stream)
    say("", *data_lines(setup), f"{len(rows)} modules, each alone in {subject.to}; {data.items} "
        f"items; times of batch {arguments.batch} on {subject.ceilings.name}",
        stream=stream)  # fmt: skip
    if arguments.plot is not None:
        plot_sensitivity(rows, f"{setup.name}: each module alone in {subject.to}", arguments.plot)
        say(f"plotted to {arguments.plot}", stream=stream)
    if arguments.journal is not None:
        say(f"kept in {arguments.journal}: trtnet search takes it with --sensitivity",
            stream=stream)  # fmt: skip
    if arguments.json is not None:
        write_json(
            {**about_json(setup), "modules": [row_json(row, data) for row in rows]}, arguments.json
        )
    return 0


def print_rows(rows: Sequence[Sensitivity], data: Data, stream: TextIO) -> None:
    """Prints a table of `rows`, one module each, with the metrics that `data` tells."""
    told = told_metrics(data, rows[0].metrics) if rows else ()
    columns = [("module", "left"), ("kind", "left"), *metric_columns(told), ("µs saved", "right")]
    cells = [
        (row.module, row.kind, *metric_cells(row.metrics, told), f"{1e6 * row.seconds_saved:.3f}")
        for row in rows
    ]
    table(columns, cells, stream)


def told_metrics(data: Data, metrics: Metrics) -> tuple[str, ...]:
    """Names of the metrics that `data` tells of a network, beside distances."""
    lacks = {"top1_drop": data.lacks_top1, "map_drop": data.lacks_map}
    is_detector = metrics.matched is not None or metrics.map_drop is not None
    return tuple(
        name for name in _TOLD
        if lacks.get(name) is None and (is_detector or name == "top1_drop")
    )  # fmt: skip


def metric_columns(told: Sequence[str]) -> list[tuple[str, str]]:
    """The columns of :func:`metric_cells`."""
    return [(name, "right") for name in ("SQNR dB", "cosine", *(_TOLD[key][0] for key in told))]


def metric_cells(metrics: Metrics, told: Sequence[str]) -> list[str]:
    """Distances, and the metrics `told`."""
    values = [(getattr(metrics, name), _TOLD[name][1]) for name in told]
    others = ["" if value is None else format(value, form) for value, form in values]
    return [f"{metrics.sqnr_db:.1f}", f"{metrics.cosine:.6f}", *others]
