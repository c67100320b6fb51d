"""What a checkpoint says about classes, in plain values: their names and how many they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trtnet.weights.pickle_stubs import Stub

_NAMES = ("names", "class_names")
_COUNTS = ("nc", "num_classes")
_BESIDE = ("args", "opt", "hyper_parameters", "meta")
"""Entries beside a state_dict in which training scripts keep their arguments."""


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


def names_beside(loaded: Mapping[Any, Any]) -> list[str] | None:
    """The class names that a checkpoint with a plain state_dict tells: its entry ``names`` or
    ``class_names``, or one of that name in the arguments of the training, which are a dict or a
    command line. ``None`` where there are none."""
    found = (_listed(place.get(key)) for place in _places(loaded) for key in _NAMES)
    return next(filter(None, found), None)


def _places(loaded: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    yield loaded
    for key in _BESIDE:
        held = loaded.get(key)
        attributes = held.state if isinstance(held, Stub) else held
        if isinstance(attributes, Mapping):
            yield attributes


def _listed(names: Any) -> list[str] | None:
    """The names in order; ``None`` where these are none."""
    if type(names) is dict:
        if {type(key) for key in names} != {int} or set(names) != set(range(len(names))):
            return None
        names = [names[number] for number in range(len(names))]
    if type(names) not in (list, tuple) or not all(map(_is_name, names)):
        return None
    return [*names]


def _is_name(name: Any) -> bool:
    """Whether it is text that files can hold: pickles may have half of a character."""
    return type(name) is str and name != "" and name == name.encode(errors="ignore").decode()
