"""Darknet's ``.cfg`` files: the layers of a network, one section each.

The format is that of https://github.com/pjreddie/darknet, which is in the public domain: a section
``[kind]``, then lines ``key=value``; lines that begin with ``#`` or ``;`` are comments.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field

from trtnet.errors import TrtnetError, UsageError
from trtnet.reading.documents import Source
from trtnet.reading.files import FilePath, read_bytes

_MOST_BYTES = 4 << 20
_WHAT = "darknet's description of a network"
_FIX = "give the .cfg file that the network was trained with"


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        kind: its name.
        values: text by key.
        place: the file and the line, for messages.
        error: the class of errors.
    """

    kind: str
    values: dict[str, str] = field(default_factory=dict)
    place: str = ""
    error: type[TrtnetError] = UsageError

    def number(self, key: str, default: int | None = None) -> int:
        """The integer `key`; raises where there is none and no `default`."""
        found = self.numbers(key, () if default is None else (default,))
        if len(found) != 1 or found[0] != int(found[0]):
            raise self.refuse(f"{key} is not one integer", got=self.values.get(key))
        return int(found[0])

    def numbers(self, key: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """The numbers of `key`, between commas."""
        text = self.values.get(key)
        if text is None:
            return default
        with contextlib.suppress(ValueError):
            found = tuple(float(part) for part in text.split(",") if part.strip())
            if found and all(math.isfinite(number) for number in found):
                return found
        raise self.refuse(f"{key} is not a list of numbers", got=text)

    def refuse(self, problem: str, expected: object = None, got: object = None) -> TrtnetError:
        """The error that says `problem` of this section."""
        where = f"{self.place}: " if self.place else ""
        return self.error(f"{where}[{self.kind}]: {problem}", expected=expected, got=got, fix=_FIX)


def read_cfg(path: FilePath, error: type[TrtnetError] = UsageError) -> list[Section]:
    """The sections of the file `path`, the first of which is ``[net]`` or ``[network]``.

    Raises:
        TrtnetError: `error`: no file, no text, a line that is none of the format, a key that
            occurs twice.
    """
    content = read_bytes(path, _WHAT, _MOST_BYTES, error=error, fix=_FIX)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise Source(str(path), _WHAT, error, _FIX).refuse(
            "it is not text in UTF-8", got=problem
        ) from problem
    return parsed(text, str(path), error)


def parsed(text: str, name: str, error: type[TrtnetError] = UsageError) -> list[Section]:
    """The sections of `text`; `name` is that of the file, for messages."""
    found: list[Section] = []
    source = Source(name, _WHAT, error, _FIX)
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            found.append(Section(line[1:-1].strip(), {}, f"{name}, line {number}", error))
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not found or key in found[-1].values:
            twice = bool(found) and key in found[-1].values
            raise source.refuse(
                f"line {number} {'says the same key again' if twice else 'is no section or value'}",
                expected="[section] or key=value",
                got=f"{line!a:.80}",
            )
        found[-1].values[key] = value
    if not found or found[0].kind not in ("net", "network"):
        raise source.refuse("it does not begin with [net]", got=found[0].kind if found else "")
    return found
