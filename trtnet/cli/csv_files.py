"""CSV files: one row in one line, and nothing in it that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence

from trtnet.cli.paths import STDOUT
from trtnet.cli.streams import say
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.files import atomic_write

_FORMULA = ("=", "+", "-", "@")


def write_csv(path: str, rows: Iterable[Sequence[object]]) -> None:
    """Writes `rows` in UTF-8 to `path`, or to stdout for ``-``: separated by commas, quoted where
    that is needed, a line feed after each row.

    Texts are escaped like all that is printed, so that each row is one line. One that a spreadsheet
    would take for a formula, as it begins with ``=``, ``+``, ``-`` or ``@``, gets an apostrophe
    before it; a path gets ``./``, which changes nothing. Numbers have six significant digits.

    Args:
        path: of the file.
        rows: texts, numbers, paths, and ``None`` for an empty cell; the first has the headers.

    Raises:
        UsageError: the file cannot be written; an old one is as it was.
    """
    lines = [csv_line(row) for row in rows]
    if path == STDOUT:
        say(*lines)
        return
    try:
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise UsageError(f"--csv: {path} cannot be written", got=error) from error


def csv_line(row: Sequence[object]) -> str:
    """A row as :func:`write_csv` writes it, without its end.

    >>> from pathlib import Path
    >>> csv_line([Path("=a.png"), "-1", "a,b", 0.123456789, 7, None]).split(",", 2)
    ['./=a.png', "'-1", '"a,b",0.123457,7,']
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(map(_cell, row))
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(value)
    if isinstance(value, str | os.PathLike) and text.startswith(_FORMULA):
        return f"./{text}" if isinstance(value, os.PathLike) else f"'{text}"
    return text
