"""What a checkpoint says about classes, in plain values: their names and how many they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_NAMES = ("names", "class_names")
_COUNTS = ("nc", "num_classes")


class Classes(NamedTuple):
    """Classes of a model.

    Attributes:
        names: in order; ``None`` where nothing says them.
        number: how many; ``None`` where nothing says it.
        note: what is wrong with the names, in words, where they are left out.
    """

    names: list[str] | None = None
    number: int | None = None
    note: str | None = None


def classes_in(*places: Mapping[Any, Any]) -> Classes:
    """The classes that the first of `places` with names tells: attributes of a model, or entries
    of a checkpoint. Names are a list or a dict from numbers; anything else is no name."""
    counts = [count for place in places for key in _COUNTS
              if type(count := place.get(key)) is int and count > 0]  # fmt: skip
    count = counts[0] if counts else None
    for place in places:
        for key in _NAMES:
            names = _listed(place.get(key))
            if not names:
                continue
            if count is not None and len(names) != count:
                note = f"its {len(names)} class names are left out: it has {count} classes"
                return Classes(None, count, note)
            return Classes(names, len(names))
    return Classes(None, count)


def _listed(names: Any) -> list[str] | None:
    """The names in order; ``None`` where these are none."""
    if type(names) is dict:
        if {type(key) for key in names} != {int} or set(names) != set(range(len(names))):
            return None
        names = [names[number] for number in range(len(names))]
    if type(names) not in (list, tuple) or not all(type(name) is str and name for name in names):
        return None
    return [*names]
