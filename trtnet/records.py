"""Records: a list whose items know the row of a table that they are."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeVar

Row = dict[str, Any]
"""A row of a table: strings, numbers, booleans, ``None`` where something is unknown, and lists of
these. It can be written as JSON, and pandas and polars read lists of rows."""


class HasRow(Protocol):
    """What is a row of a table."""

    def row(self) -> Row:
        """The row; those of one class have the same keys."""


T = TypeVar("T", bound=HasRow)


class Records(list[T]):
    """A list of records that is a table too."""

    def rows(self) -> list[Row]:
        """One row for each record."""
        return [record.row() for record in self]


def plain(row: Row) -> Row:
    """`row` with ``None`` in place of numbers that are NaN or infinite, which JSON lacks."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
