"""Parsers and groups of flags, as all commands have them."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from trtnet.cli.importing import add_import_flag, import_all
from trtnet.cli.paths import named_files, require_there
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, require_distinct, require_writable
from trtnet.names import did_you_mean

LARGEST = 2**31 - 1
"""The largest number of images, and the largest size of an axis, that TensorRT can have."""

_HELP = "see --help"
_SHOWN = 40  # digits of a number that is refused


Following = Callable[[argparse.Namespace], Iterable[NamedFile]]
"""Files that follow from several arguments, such as one with a name by default."""


class GivenFlag(NamedTuple):
    """A flag of a command line: its name, and its words, the flag and its values, as written."""

    flag: str
    words: tuple[str, ...]


_MOST_VALUES: Mapping[Any, int] = {None: 1, 0: 0, "?": 1, "*": LARGEST, "+": LARGEST}


def _is_value(word: str, nargs: Any) -> bool:
    """Whether `word` after a flag is one of its values; one that must have a value takes any."""
    return nargs is None or not word.startswith("-")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are :class:`UsageError`, and that suggests flags for unknown ones.

    A command that opens a model or an engine has ``--import``, see :mod:`trtnet.cli.importing`.

    Attributes:
        following: files that the arguments do not name themselves.
    """

    following: Following | None = None

    def parse_args(  # type: ignore[override]  # argparse has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The arguments in `args`, by default those of the program; ``files`` are the files that
        they name, see :mod:`trtnet.cli.paths`, and ``given`` the flags as they were written, see
        :class:`GivenFlag`. What ``--import`` names is imported.

        Raises:
            UsageError: arguments that are wrong or unknown; a file that is to be written and read,
                or cannot be written; code that cannot be imported.
            SystemExit: after ``--help``.
        """
        add_import_flag(self)
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise UsageError(
                f"unrecognized arguments: {' '.join(unknown)}", fix=self._suggest(unknown)
            )
        found.given = [*self._given(sys.argv[1:] if args is None else args)]
        found.files = [*named_files(self, found)]
        if self.following is not None:
            found.files += self.following(found)
        require_distinct(found.files)
        require_writable(found.files)
        import_all(getattr(found, "imports", ()))
        return found

    def parse_known_args(  # type: ignore[override]  # as parse_args
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse has it. Where that fails, a file or model that is not there is said first."""
        found = argparse.Namespace() if namespace is None else namespace
        try:
            return super().parse_known_args(args, found)
        except UsageError:
            if not getattr(found, "imports", ()):  # they may register the model
                require_there(self, found)
            raise

    def error(self, message: str) -> NoReturn:
        """Raises :class:`UsageError`."""
        raise UsageError(message, fix=_HELP)

    def takes(self, given: GivenFlag) -> bool:
        """Whether the flag is one of this parser's, and its value one that it knows."""
        action = self._option_string_actions.get(given.flag)
        if action is None or action.choices is None:
            return action is not None
        values = given.words[1:] or (given.words[0].partition("=")[2],)
        return all(value in action.choices for value in values)

    def _given(self, words: Sequence[str]) -> Iterator[GivenFlag]:
        place = 0
        while place < len(words) and words[place] != "--":
            word = words[place]
            place += 1
            flag, equals, _ = word.partition("=")
            action = self._option_string_actions.get(flag)
            if action is None:
                continue
            start, most = place, 0 if equals else _MOST_VALUES.get(action.nargs, 1)
            while place < min(start + most, len(words)):
                if not _is_value(words[place], action.nargs):
                    break
                place += 1
            yield GivenFlag(flag, (word, *words[start:place]))

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


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """The type of a flag that takes a whole number from `least` to `most`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # also a number of more than 4,300 digits
            raise _refusal(text, "is no whole number") from None
        if number < least:
            raise _refusal(number, "is not positive" if least == 1 else f"is less than {least}")
        if number > most:
            raise _refusal(number, f"is more than {most:,}, the largest possible")
        return number

    return read


def real(least: float, most: float) -> Callable[[str], float]:
    """The type of a flag that takes a number from `least` to `most`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise _refusal(text, "is no number") from None
        if not math.isfinite(number):
            raise _refusal(text, "is not finite")
        if not least <= number <= most:
            raise _refusal(text, f"is not between {least:,g} and {most:,g}")
        return number

    return read


def positive(text: str) -> int:
    """The type of a flag that takes a positive whole number."""
    return whole(1)(text)


def seed(text: str) -> int:
    """The type of a flag that takes a seed of random numbers."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise _refusal(text, "is not a seed: a whole number from 0 to 2**63 - 1")
    return number


def _refusal(value: object, problem: str) -> argparse.ArgumentTypeError:
    text = str(value)
    return argparse.ArgumentTypeError(f"{text[:_SHOWN]}{'...' * (len(text) > _SHOWN)} {problem}")
