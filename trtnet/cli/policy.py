"""``trtnet policy``: the precision of every module of a model, and why."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trtnet.cli.arguments import add_architecture_flags
from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import input_model, output_file, output_report
from trtnet.cli.precision import add_precision_flags, named
from trtnet.cli.recipes import model_recipe
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.streams import say
from trtnet.cli.tables import numbered, table
from trtnet.errors import UsageError
from trtnet.pipeline.model import builder_arguments
from trtnet.precision.policy import Policy

_ALWAYS = {"detection": {"coding of boxes": "fp32", "suppression": "fp32"}}
"""By task, what no policy changes: trtnet.detection."""

_COLUMNS = (("module", "left"), ("type", "left"), ("precision", "left"), ("why", "left"))


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(policy_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Prints a row for each module; neither weights nor TensorRT are needed."""
    name, chosen = named(arguments.target, arguments)
    policy, recipe = chosen.policy, model_recipe(arguments, name)
    rows = policy.explain(recipe.entry.build(**builder_arguments(recipe)))
    stream = human_stream(arguments.json)
    counts = Counter(row.precision for row in rows if row.kind).most_common()
    totals = ", ".join(f"{count} {precision}" for precision, count in counts)
    say(f"modules that compute: {totals}; inputs and outputs {policy.io}", "", stream=stream)
    always = _ALWAYS.get(recipe.entry.task, {})
    for what, precision in always.items():
        say(f"{what}: {precision}, whatever the policy", stream=stream)
    if always:
        say("", stream=stream)
    reasons, notes = numbered([row.reason for row in rows])
    cells = [(row.module, row.type, row.precision, reason)
             for row, reason in zip(rows, reasons, strict=True)]  # fmt: skip
    table(_COLUMNS, cells, stream)
    say(*(["", *notes] if notes else []), stream=stream)
    if arguments.output is not None:
        save(policy, arguments.output)
        say(f"written to {arguments.output}", stream=stream)
    if arguments.json is not None:
        modules = [dataclasses.asdict(row) for row in rows]
        report = {"model": recipe.entry.name, "policy": policy.as_dict(), "always": always,
                  "modules": modules}  # fmt: skip
        write_json(report, arguments.json)
    return 0


def save(policy: Policy, path: Path) -> None:
    """Writes `policy` as TOML.

    Raises:
        UsageError: it cannot be written; an old file is as it was.
    """
    try:
        policy.save(path)
    except OSError as error:
        raise UsageError(f"-o: {path} cannot be written", got=error) from error


def policy_parser() -> Parser:
    """The parser of ``trtnet policy``."""
    parser = Parser(
        prog="trtnet policy",
        description="What every module of a model gets, and why.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        type=input_model,
        metavar="MODEL",
        help="such as resnet50, resnet50:int8 or net.py:Net",
    )
    add_precision_flags(Group(parser, "precision"))
    add_architecture_flags(Group(parser, "model"))
    output = Group(parser, "output")
    parser.add_argument(
        "-o", dest="output", type=output_file, metavar="FILE", help="write it as TOML"
    )
    output("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    return parser
