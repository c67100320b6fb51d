"""Policies as TOML files: strings, and tables of strings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trtnet.errors import UsageError
from trtnet.files import atomic_write

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Values = Mapping[str, "str | Mapping[str, str]"]
"""Entries of a policy: its strings, and its tables of strings."""


def read_entries(path: str | os.PathLike[str], entries: Mapping[str, bool]) -> dict[str, Any]:
    """The entries of the file `path`, in its order.

    Args:
        entries: the names that a policy may have, each with whether it is a table of strings.

    Raises:
        UsageError: a file that cannot be read, is not TOML, or has other entries.
    """
    try:
        values: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "the policy cannot be read", module=str(path), got=error, fix="write a TOML file"
        ) from error
    for name, value in values.items():
        is_table = isinstance(value, dict)
        texts = value.values() if isinstance(value, dict) else [value]
        fits = name in entries and is_table == entries[name]
        if not fits or not all(isinstance(text, str) for text in texts):
            raise UsageError(
                f"the policy has an entry {name!r} that is unknown or of the wrong type",
                module=str(path),
                got=value,
                expected=_expected(entries),
            )
    return values


def write_entries(path: str | os.PathLike[str], values: Values) -> None:
    """Writes `values`, strings first, to the file `path`, atomically.

    Raises:
        OSError: it cannot be written; an old file is as it was.
    """
    with atomic_write(path) as file:
        file.write("\n".join(_lines(values)).encode() + b"\n")


def _expected(entries: Mapping[str, bool]) -> str:
    texts = ", ".join(name for name, is_table in entries.items() if not is_table)
    tables = ", ".join(name for name, is_table in entries.items() if is_table)
    return f"the strings {texts}; the tables of strings {tables}"


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
