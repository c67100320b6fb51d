"""Parsers and groups of flags, as all commands have them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from trtnet.errors import UsageError
from trtnet.names import did_you_mean

_HELP = "see --help"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`UsageError`, and that suggests flags for unknown ones."""

    def parse_args(  # type: ignore[override]  # argparse has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The arguments in `args`, by default those of the program.

        Raises:
            UsageError: arguments that are wrong or unknown.
            SystemExit: after ``--help``.
        """
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise UsageError(
                f"unrecognized arguments: {' '.join(unknown)}", fix=self._suggest(unknown)
            )
        return found

    def error(self, message: str) -> NoReturn:
        """Raises :class:`UsageError`."""
        raise UsageError(message, fix=_HELP)

    def _suggest(self, unknown: Sequence[str]) -> str:
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for argument in unknown:
            flag = argument.partition("=")[0]
            suggestion = did_you_mean(flag, known) if flag.startswith("--") else None
            if suggestion is not None:
                return f"{suggestion} --help shows all flags"
        return _HELP


class Group:
    """An argument group whose camel-case flags are accepted in kebab case too."""

    def __init__(self, parser: argparse.ArgumentParser, title: str) -> None:
        self._group = parser.add_argument_group(title)

    def __call__(self, flag: str, **options: Any) -> None:
        action = self._group.add_argument(flag, **options)
        kebab = re.sub("[A-Z]+", lambda letters: f"-{letters[0].lower()}", flag)
        if kebab != flag:
            alias = {**options, "dest": action.dest, "help": argparse.SUPPRESS}
            self._group.add_argument(kebab, **alias)


def positive(text: str) -> int:
    """The type of a flag that takes a positive number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
