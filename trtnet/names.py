"""Names: the state_dict keys of parameters, and suggestions for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from trtnet.layer_names import without_calls


def parameter_name(path: str, name: str) -> str:
    """The state_dict key of parameter `name` of the module at `path`.

    `path` is that of a call: the numbers of repeated calls, such as ``block#1``, are left out.
    """
    return without_calls(f"{path}.{name}").strip(".")


def nearest(name: str, known: Iterable[str], *, count: int = 3, cutoff: float = 0.6) -> list[str]:
    """At most `count` of the `known` names that are similar to `name`, the most similar first.

    Args:
        cutoff: least similarity, from 0 (any name) to 1 (equal); see :mod:`difflib`.
    """
    return difflib.get_close_matches(name, list(known), n=count, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """``"did you mean a, b?"`` with the `known` names that are similar to `name`; ``None`` where
    there are none. Meant for the `fix` of a :class:`trtnet.TrtnetError`."""
    found = nearest(name, known, cutoff=cutoff)
    return f"did you mean {', '.join(found)}?" if found else None
