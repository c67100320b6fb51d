"""Policies as TOML files: strings, and tables of strings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.precision.budget import Budget
from trtnet.reading.documents import Source, from_toml, shortened
from trtnet.reading.files import read_bytes
from trtnet.reading.schema import checked

Values = Mapping[str, "str | Mapping[str, str]"]
"""Entries of a policy: its strings, and its tables of strings."""

_LONGEST_KEY = 1000  # characters of a module's path
_MOST_BYTES = 1 << 20  # a line for each module of a large network is a tenth of it


@dataclass(frozen=True)
class _File:
    """The entries that a file may have; see :class:`trtnet.precision.policy.Policy`."""

    compute: str = ""
    keep: dict[str, str] = field(default_factory=dict)
    io: str = ""
    base: str = ""
    kinds: dict[str, str] = field(default_factory=dict)
    budget: str = ""


def read_entries(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The entries of the file `path`, in its order: strings and tables of strings, and the budget.

    Raises:
        UsageError: a file that cannot be read, is not TOML, or has other entries.
    """
    known = [entry.name for entry in fields(_File)]
    source = Source(str(path), "a policy", fix=f"write a TOML file with {', '.join(known)}")
    values = from_toml(read_bytes(path, source.what, _MOST_BYTES, fix=source.fix), source)
    for name in values:
        if name not in known:
            raise source.refuse(f"unknown entry {shortened(name)}", expected=", ".join(known))
    stated = checked(values, _File, source)
    longest = max((len(key) for key in (*stated.keep, *stated.kinds)), default=0)
    if longest > _LONGEST_KEY:  # fnmatch takes time for the square of a pattern's length
        raise source.refuse(
            "a pattern is too long", expected=f"at most {_LONGEST_KEY} characters", got=longest
        )
    if "budget" in values:
        values["budget"] = _budget(stated.budget, source)
    return values


def _budget(text: str, source: Source) -> Budget:
    try:
        return Budget.parse(text)
    except UsageError as error:
        raise source.refuse(error.problem, expected=error.expected) from error


def write_entries(path: str | os.PathLike[str], values: Values) -> None:
    """Writes `values`, strings first, to the file `path`, atomically.

    Raises:
        OSError: it cannot be written; an old file is as it was.
    """
    with atomic_write(path) as file:
        file.write(toml_text(values).encode())


def toml_text(values: Values) -> str:
    """What :func:`write_entries` writes."""
    return "".join(f"{line}\n" for line in _lines(values))


def _lines(values: Values) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, str):
            yield f"{name} = {_text(value)}"
        else:
            yield f"\n[{name}]"
            yield from (f"{_text(k)} = {_text(v)}" for k, v in value.items())


def _text(value: str) -> str:
    """`value` as a string of TOML: as one of JSON, but TOML knows no surrogate pairs and wants DEL
    escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
