"""``trtnet plugin``: starts, tests and times a custom plugin."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trtnet.cli.flags import Parser, positive, seed, whole
from trtnet.cli.importing import search_here
from trtnet.cli.paths import input_plugin, output_folder, word
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.plugins import registry, skeleton
from trtnet.plugins.shipped_paths import IMPORT_PATHS

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

_TENSORS = whole(1, 16)
_NAME = (
    "such as my_plugins.py:LeakyGate, or my_plugins:LeakyGate with the name of a module; the class "
    "may be left out where it is alone. Or the name of a plugin that --import declares, such as "
    f"my_ops::leaky_gate; or a plugin of trtnet: {', '.join(IMPORT_PATHS)}"
)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Does what the subcommand says; 1 where a plugin fails its test."""
    if arguments.command == "new":
        count = (arguments.inputs, arguments.outputs)
        paths = skeleton.write(arguments.name, arguments.directory, *count)
        say(*(f"written: {path}" for path in paths))
        say(f"test it: trtnet plugin test {shlex.quote(str(paths[0]))}")
        return 0
    search_here()
    made = registry.load(_place(arguments.name))
    return _test(made, arguments) if arguments.command == "test" else _bench(made, arguments)


def _place(name: str) -> str:
    """Where the plugin `name` is; a module of the user's goes before one of trtnet's."""
    own = name not in IMPORT_PATHS or importlib.util.find_spec(name) is not None
    return name if own else IMPORT_PATHS[name]


def _test(made: type[Plugin], arguments: argparse.Namespace) -> int:
    from trtnet.plugins import testing

    rows = testing.check(made, arguments.cases, arguments.seed)
    worst = "worst relative L2"
    columns = (("format", "left"), ("form", "left"), ("cases", "right"), (worst, "right"))
    cells = [
        (row.format, row.form, row.cases, f"{row.worst:.1e}" if row.cases else "not run")
        for row in rows
    ]
    table(columns, cells, sys.stdout)
    failures = [f"failed: {row.failure}" for row in rows if row.failure is not None]
    skipped = {f"{row.form}: {row.skipped}" for row in rows if row.skipped is not None}
    compared = sum(row.cases for row in rows)
    agree = f"{compared} examples agree with the reference" if compared else "nothing compared"
    say("", *(failures or [*sorted(skipped), f"{made.name}: {agree}"]))
    return 1 if failures else 0


def _bench(made: type[Plugin], arguments: argparse.Namespace) -> int:
    from trtnet.plugins import testing

    rows = testing.bench(made, arguments.size, arguments.seed)
    columns = tuple(
        (name, "left" if name in ("format", "inputs") else "right")
        for name in ("format", "inputs", "kernel", "reference", "speed-up", "GB/s", "GMAC/s")
    )
    cells = [
        (
            row.format,
            row.shapes,
            f"{1e6 * row.kernel:.1f} µs",
            f"{1e6 * row.reference:.1f} µs",
            f"{row.reference / row.kernel:.2f}",
            f"{row.nbytes / row.kernel / 1e9:.0f}",
            f"{row.macs / row.kernel / 1e9:.0f}" if row.macs else "",
        )
        for row in rows
    ]
    table(columns, cells, sys.stdout)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="trtnet plugin",
        description="Starts, tests and times a custom plugin.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    new = commands.add_parser("new", help="write a plugin that works, and its test")
    new.add_argument("name", type=word, metavar="NAME", help="leaky_gate, or my_ops::leaky_gate")
    new.add_argument("--directory", type=output_folder, default=Path(), metavar="DIR")
    for what in ("inputs", "outputs"):
        new.add_argument(f"--{what}", type=_TENSORS, default=1, metavar="N", help="default 1")
    test = commands.add_parser(
        "test", help="compare it with its reference on random shapes, in every format"
    )
    test.add_argument("name", type=input_plugin, metavar="NAME", help=_NAME)
    test.add_argument("--cases", type=positive, default=50, metavar="N", help="default 50")
    bench = commands.add_parser("bench", help="time its kernel and its reference on a GPU")
    bench.add_argument("name", type=input_plugin, metavar="NAME", help=_NAME)
    bench.add_argument(
        "--size", type=positive, default=64, metavar="N", help="of every axis; default 64"
    )
    for command in (test, bench):
        command.add_argument("--seed", type=seed, default=0)
    return parser
