"""Command lines that one command advises: they work as they are printed, from the same folder."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from trtnet.cli.flags import GivenFlag, Parser

_OF_THE_RUN = ("--json",)  # where this run wrote something, not what it worked on


def carried(given: Iterable[GivenFlag], target: Parser, without: Collection[str] = ()) -> list[str]:
    """The words of those of the `given` flags that the parser `target` takes too.

    Args:
        without: flags that are left out, because the advice says something else.
    """
    left_out = {*without, *_OF_THE_RUN}
    kept = (one for one in given if target.takes(one) and one.flag not in left_out)
    return [word for one in kept for word in one.words]


def table_of(policy: Path) -> Path:
    """The file of the ranges that a search keeps beside its policy."""
    return policy.with_name(f"{policy.name}.calib.json")


def build_command(arguments: argparse.Namespace, items: int, quantizes: bool) -> str:
    """The command that builds the policy of ``trtnet search`` and verifies its budget.

    Args:
        arguments: of the search.
        items: how many items of the data it used.
        quantizes: whether the policy needs ranges.
    """
    from trtnet.cli.arguments import zoo_parser

    words = ["trtnet", "zoo", arguments.target, *carried(arguments.given, zoo_parser())]
    if not any(one.flag == "--batch" for one in arguments.given):
        words += ["--batch", str(arguments.batch)]
    words += ["--policy", str(arguments.output)]
    if quantizes:
        words += ["--calib-table", str(table_of(arguments.output))]
    return shlex.join([*words, "--calib-data", arguments.data, "--calib-items", str(items)])
