"""``trtnet ceilings``: what this machine's processor can do at most, measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trtnet import graph
from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import output_file, output_report, word
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.errors import UsageError


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(ceilings_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints, and writes the file."""
    from trtnet.benchmark import measure_ceilings  # needs torch

    found = measure_ceilings(arguments.device, arguments.name)
    stream = human_stream(arguments.json)
    rows = [("memory", f"{found.bandwidth / 1e9:,.1f} GB/s")]
    rows += [(name, f"{flops / 1e12:,.3f} TFLOP/s") for name, flops in found.flops.items()]
    say(f"{found.key}: {found.name} ({found.source})", "", stream=stream)
    table([("what", "left"), ("at most", "right")], rows, stream)
    if arguments.output is not None:
        try:
            graph.save_ceilings(arguments.output, [found])
        except OSError as error:
            raise UsageError(f"-o: {arguments.output} cannot be written", got=error) from error
        say("", f"written to {arguments.output}: trtnet cost MODEL --ceilings {arguments.output}",
            stream=stream)  # fmt: skip
    if arguments.json is not None:
        flops = dict(found.flops)
        write_json(
            {"gpu": found.key, "name": found.name, "bandwidth": found.bandwidth, "flops": flops,
             "source": found.source},
            arguments.json,
        )  # fmt: skip
    return 0


def ceilings_parser() -> Parser:
    """The parser of ``trtnet ceilings``."""
    parser = Parser(
        prog="trtnet ceilings",
        description="Measures memory bandwidth and rates of products, for --ceilings of other "
        "commands.",
        allow_abbrev=False,
    )
    flag = Group(parser, "what")
    flag("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    flag("--name", type=word, metavar="KEY", help="what --gpu calls it; default: the device")
    output = Group(parser, "output")
    parser.add_argument(
        "-o", dest="output", type=output_file, metavar="FILE", help="write it as JSON"
    )
    output("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    return parser
