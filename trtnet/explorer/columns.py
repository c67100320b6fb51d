"""Tables as columns, which is compact in JSON and quick to read in a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

Columns = dict[str, Any]
"""One list per column, all of one length; a column of few different values is a :func:`repeated`
one."""


def repeated(values: Iterable[Any]) -> dict[str, list[Any]]:
    """A column of values that repeat: the different ones, and which of them each row has; -1 where
    it has ``None``.

    >>> repeated(["CAST", None, "CAST"])
    {'values': ['CAST'], 'at': [0, -1, 0]}
    """
    places: dict[Any, int] = {}
    at = [-1 if value is None else places.setdefault(value, len(places)) for value in values]
    return {"values": list(places), "at": at}


def transposed(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """The columns `names` of `rows`."""
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
    return columns


def number(value: float | None) -> float | None:
    """`value` as JSON has it: ``None`` for what is not finite."""
    return None if value is None or not math.isfinite(value) else value
