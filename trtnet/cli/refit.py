"""``trtnet refit``: other weights in a built engine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trtnet.cli.flags import Group, Parser, real
from trtnet.cli.paths import (
    input_engine,
    input_file,
    input_weights_file,
    output_engine,
    output_report,
    word,
)
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.streams import say
from trtnet.errors import UsageError

if TYPE_CHECKING:
    from trtnet.building.plan import Plan
    from trtnet.quantization.table import CalibrationTable
    from trtnet.weights.container import Weights


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 where the engine can get the weights."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Writes the new engine, or with ``--dry-run`` only says what would become of each key."""
    if (arguments.output is None) != arguments.dry_run:
        raise UsageError(
            "say where the new engine goes, or that none is to be written",
            expected="-o NEW, or --dry-run",
        )
    from trtnet.building.plan import Plan

    stream = human_stream(arguments.json)
    plan = Plan.load(arguments.target)
    state, table = _weights(plan, arguments), _table(arguments.calib_table)
    say(*state.notes, stream=stream)
    report = plan.refit_report(state, calibration=table)
    say(*report.lines(), stream=stream)
    if arguments.json is not None:
        write_json(report.as_json(), arguments.json)
    if arguments.dry_run:
        return 0 if report.is_possible else 1
    report.require()
    made = plan.refit(state, calibration=table)
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o: {arguments.output} cannot be written", got=error) from error
    made.save(arguments.output)
    say(f"{'engine':12}{arguments.output}, with the weights of {state.source}; not verified again",
        stream=stream)  # fmt: skip
    return 0


def _weights(plan: Plan, arguments: argparse.Namespace) -> Weights:
    from trtnet import weights
    from trtnet.building.new_weights import places
    from trtnet.building.refitting import recipes_of

    wanted = places(recipes_of(plan.described))
    found = weights.load(arguments.weights, key=arguments.weights_key, model=wanted)
    if arguments.lora is None:
        return found
    return weights.with_lora(found, weights.load(arguments.lora), alpha=arguments.lora_alpha)


def _table(path: Path | None) -> CalibrationTable | None:
    if path is None:
        return None
    from trtnet.quantization.table import CalibrationTable

    return CalibrationTable.load(path)


def _parser() -> Parser:
    parser = Parser(
        prog="trtnet refit",
        description="Puts other weights of the same architecture into an engine that was built "
        "with --refit, --refit-individual or --stripWeights.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target", metavar="ENGINE", type=input_engine, help="a file of --saveEngine"
    )
    flag = Group(parser, "weights")
    flag("--weights", required=True, type=input_weights_file, metavar="W",
         help="a file or folder of weights, complete")  # fmt: skip
    flag("--weights-key", type=word, metavar="KEY", help="which part of a checkpoint to take")
    flag("--lora", type=input_file, metavar="FILE",
         help="an adapter of low rank, which is added to W")  # fmt: skip
    flag("--lora-alpha", type=real(-1e9, 1e9), metavar="A",
         help="its alpha, where the file does not say it")  # fmt: skip
    flag("--calib-table", type=input_file, metavar="TABLE",
         help="the ranges of these weights, for INT8 and FP8")  # fmt: skip
    flag = Group(parser, "output")
    parser.add_argument(
        "-o", "--output", metavar="NEW", type=output_engine, help="the file of the new engine"
    )
    flag("--dry-run", action="store_true",
         help="write nothing; say what would become of each key")  # fmt: skip
    flag("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    return parser
