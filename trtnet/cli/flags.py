"""Parsers and groups of flags, as all commands have them."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from trtnet.errors import UsageError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix="see --help")


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
