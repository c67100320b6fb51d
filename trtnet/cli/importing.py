"""``--import``: code of the user's, such as a module with plugins, that a command imports first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from trtnet.cli.paths import FileArgument, input_code
from trtnet.importing import import_place

FLAG = "--import"
_FORM = "file.py or package.module"


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Adds ``--import`` to `parser` and its subcommands, wherever an argument names a model or an
    engine."""
    if FLAG in parser._option_string_actions:
        return
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in set(action.choices.values()):
                add_import_flag(command)
    types = (action.type for action in parser._actions)
    if any(isinstance(kind, FileArgument) and kind.needs_code for kind in types):
        parser.add_argument_group("code of your own").add_argument(
            FLAG,
            dest="imports",
            action="append",
            default=[],
            type=input_code,
            metavar="MODULE",
            help="import it first, which runs its code: a module or path/file.py that declares "
            "plugins or registers models; repeatable",
        )


def import_all(places: Sequence[str]) -> None:
    """Imports modules and files in order. Modules are looked for in the present folder first.

    Raises:
        UsageError: one does not exist, or its code raised an error.
    """
    if places:
        search_here()
    for place in places:
        import_place(place, _FORM, f"{FLAG} {place}")


def search_here() -> None:
    """Lets modules in the present folder be imported, as ``python -m`` does."""
    if "" not in sys.path:
        sys.path.insert(0, "")
