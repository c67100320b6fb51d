"""``python -m trtnet.zoo MODEL``: defines, verifies, builds and writes an engine, and reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from trtnet import pipeline
from trtnet.cli.paths import output_engine
from trtnet.cli.progress import Progress
from trtnet.cli.recipes import build_recipe
from trtnet.cli.report import divergence_lines, human_stream, summary_lines, write_json
from trtnet.cli.streams import say
from trtnet.files.roles import NamedFile, Use, require_distinct, require_writable


def run(arguments: argparse.Namespace) -> int:
    """Runs the pipeline; returns the exit status, 1 if verification failed."""
    prepared = pipeline.prepare(build_recipe(arguments))
    _check_engine(prepared.engine, arguments)
    stream = human_stream(arguments.json)
    if prepared.place.note is not None:
        say(prepared.place.note, stream=stream)
    result = pipeline.run(prepared, Progress(stream))
    report = result.report
    lines = [] if result.passed else divergence_lines(report["verify"])
    say("", *lines, *summary_lines(report), stream=stream)
    if not result.passed:
        from trtnet.cli.next_command import next_lines  # all commands that it may name

        advice = (arguments.model, arguments.chosen, result.model, report["verify"])
        say(*next_lines(arguments, *advice), stream=stream)
    if arguments.json is not None:
        write_json(report, arguments.json)
    return 0 if result.passed else 1


def _check_engine(path: Path, arguments: argparse.Namespace) -> None:
    """What the parser checks for flags, for names by default, which are known only now."""
    flag = "--saveEngine"
    files = [*output_engine.named(flag, path)]
    if arguments.calib_table is None:
        table = Path(f"{path}.calib.json")
        files.append(NamedFile(flag, table, Use.UPDATE, "the calibration table of the engine"))
    require_distinct([*(file for file in arguments.files if file.flag != flag), *files])
    require_writable(files)
