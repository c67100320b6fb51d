"""``python -m trtnet.zoo MODEL``: defines, verifies, builds and writes an engine, and reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from trtnet import pipeline
from trtnet.building.plan import sidecar_path
from trtnet.cli.progress import Progress
from trtnet.cli.recipes import build_recipe
from trtnet.cli.report import divergence_lines, human_stream, summary_lines, write_json
from trtnet.cli.streams import say
from trtnet.errors import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Runs the pipeline; returns the exit status, 1 if verification failed."""
    prepared = pipeline.prepare(build_recipe(arguments))
    _check_report_path(arguments.json, prepared.engine)
    stream = human_stream(arguments.json)
    result = pipeline.run(prepared, Progress(stream))
    report = result.report
    lines = [] if result.passed else divergence_lines(report["verify"])
    say("", *lines, *summary_lines(report), stream=stream)
    if arguments.json is not None:
        write_json(report, arguments.json)
    return 0 if result.passed else 1


def _check_report_path(json: str | None, engine: Path) -> None:
    """Finds a path that cannot be written before the work, not after it."""
    if json is None or json == "-":
        return
    if Path(json).absolute() in (engine.absolute(), sidecar_path(engine).absolute()):
        raise UsageError(f"--json: {json} is where the engine or its sidecar goes")
    if Path(json).is_dir() or not Path(json).absolute().parent.is_dir():
        raise UsageError(f"--json: {json} is a directory, or in one that does not exist")
