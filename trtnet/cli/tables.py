"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Columns = Sequence[tuple[str, str]]
"""(header, justification) of each column."""


def table(columns: Columns, rows: Sequence[Sequence[Any]], stream: Any) -> None:
    """Prints `rows` with rich; as wide as they are, so that a pipe gets whole names."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for header, justify in columns:
        made.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        made.add_row(*map(str, row))
    width = None if stream.isatty() else 10_000
    Console(file=stream, width=width, markup=False, highlight=False).print(made)
