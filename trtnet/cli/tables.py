"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

Columns = Sequence[tuple[str, str]]
"""(header, justification) of each column; the justification is ``"left"`` or ``"right"``."""

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def table(columns: Columns, rows: Sequence[Sequence[Any]], stream: TextIO) -> None:
    """Prints `rows` in columns two blanks apart, as wide as they are, so that a pipe gets whole
    names; the header is bold on a terminal. Not with rich, which takes longer to import than
    ``--list`` to answer."""
    cells = [[_printable(str(cell)) for cell in row] for row in rows]
    widths = [
        max(len(text) for text in (header, *(row[place] for row in cells)))
        for place, (header, _) in enumerate(columns)
    ]

    def line(texts: Sequence[str]) -> str:
        aligned = (
            text.rjust(width) if justify == "right" else text.ljust(width)
            for text, width, (_, justify) in zip(texts, widths, columns, strict=True)
        )
        return "  ".join(aligned).rstrip()

    header = line([name for name, _ in columns])
    print(f"{_BOLD}{header}{_PLAIN}" if stream.isatty() else header, file=stream)
    for row in cells:
        print(line(row), file=stream)


def _printable(text: str) -> str:
    """`text` without characters that would control a terminal or break the line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
