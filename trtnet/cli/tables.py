"""Tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from trtnet.cli.streams import for_control, say
from trtnet.escaping import printable

Columns = Sequence[tuple[str, str]]
"""(header, justification) of each column; the justification is ``"left"`` or ``"right"``."""

_LONG = 40  # characters of a cell that is not repeated
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def table(columns: Columns, rows: Sequence[Sequence[Any]], stream: TextIO) -> None:
    """Prints `rows` in columns two blanks apart, as wide as they are, so that a pipe gets whole
    names; the header is bold on a terminal. Not with rich, which takes longer to import than
    ``--list`` to answer."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(len(text) for text in (header, *(row[place] for row in cells)))
        for place, (header, _) in enumerate(columns)
    ]

    header = aligned(columns, widths, [name for name, _ in columns])
    if stream.isatty():
        for_control(stream).write(f"{_BOLD}{printable(header)}{_PLAIN}\n")
    else:
        say(header, stream=stream)
    say(*(aligned(columns, widths, row) for row in cells), stream=stream)


def aligned(columns: Columns, widths: Sequence[int], texts: Sequence[str]) -> str:
    """One line of a table, of texts that are escaped already.

    >>> aligned([("image", "left"), ("share", "right")], [6, 5], ["a.png", "7 %"])
    'a.png     7 %'
    """
    cells = (
        text.rjust(width) if justify == "right" else text.ljust(width)
        for text, width, (_, justify) in zip(texts, widths, columns, strict=True)
    )
    return "  ".join(cells).rstrip()


def numbered(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Long texts that occur several times as numbers, and what the numbers stand for.

    >>> numbered(["short", "a sentence that is too long to be read again"] * 2)
    (['short', '[1]', 'short', '[1]'], ['[1] a sentence that is too long to be read again'])
    """
    counts = Counter(texts)
    long = [text for text, count in counts.items() if count > 1 and len(text) > _LONG]
    marks = {text: f"[{number}]" for number, text in enumerate(long, start=1)}
    notes = [f"{mark} {text}" for text, mark in marks.items()]
    return [marks.get(text, text) for text in texts], notes
