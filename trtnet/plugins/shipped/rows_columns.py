"""Reads attributes of the shipped plugins that hold one number for rows and one for columns."""

from __future__ import annotations

from typing import Any

from trtnet.errors import UsageError


def rows_and_columns(plugin: Any, name: str) -> tuple[int, int]:
    """Returns the attribute `name` of `plugin`, a tuple of two ints.

    Raises:
        UsageError: it has another number of ints.
    """
    values = getattr(plugin, name)
    if len(values) != 2:
        raise UsageError(
            f"{name} takes a number for rows and one for columns",
            expected="two numbers, such as (2, 2)",
            got=values,
        )
    return values[0], values[1]
