"""Attributes of the shipped plugins that are one number for rows and one for columns."""

from __future__ import annotations

from typing import Any

from trtnet.errors import UsageError


def pair(plugin: Any, name: str) -> tuple[int, int]:
    """The attribute `name` of `plugin`: one number for rows, one for columns.

    Raises:
        UsageError: another number of numbers.
    """
    values = getattr(plugin, name)
    if len(values) != 2:
        raise UsageError(
            f"{name} takes a number for rows and one for columns", module=plugin.name, got=values
        )
    return values[0], values[1]
