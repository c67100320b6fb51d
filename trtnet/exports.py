"""``@export``: the one way in which names get into the ``__all__`` of their file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Mapping
from typing import Any, TypeVar

Exported = TypeVar("Exported", bound=Callable[..., Any])


def export(thing: Exported) -> Exported:
    """Adds a function or class to ``__all__`` of the file that defines it.

    Packages collect their names by ``from file import *``, so a new function or layer needs no
    further line anywhere. Type checkers see no ``__all__`` and take every public name.

    Raises:
        ValueError: the file exports the name already.
    """
    names: list[str] = vars(sys.modules[thing.__module__]).setdefault("__all__", [])
    if thing.__name__ in names:
        raise ValueError(f"{thing.__module__} exports {thing.__name__!r} twice")
    names.append(thing.__name__)
    return thing


def collected(namespace: Mapping[str, object], without: Container[str] = ()) -> list[str]:
    """The public functions and classes in the namespace of a package that star-imports its files:
    its ``__all__`` at run time.

    Args:
        without: names that the package imports for its own use.
    """
    return [
        name
        for name, value in namespace.items()
        if callable(value) and value is not collected and name[0] != "_" and name not in without
    ]
