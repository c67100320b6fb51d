"""Arguments of a model that its weights were trained with, and that no shape of them reveals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trtnet.errors import WeightsError
from trtnet.weights.container import Weights
from trtnet.zoo.entry import Entry


def trained_with(
    entry: Entry, weights: Weights, given: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments that `weights` were trained with, as far as nobody has `given` them, and notes
    on those that nothing tells. Weights say them in their metadata, by torchvision's name for them
    or by the hash of torchvision's file.

    Raises:
        WeightsError: metadata that cannot be used.
    """
    names = [name for name in _names(entry) if name not in given]
    if not names:
        return {}, ()
    known = _known(entry, weights)
    if known is None:
        if weights.metadata.get("weights") == "random":
            return {}, ()
        return {}, tuple(_unknown(entry, name) for name in names)
    return {name: known[name] for name in names if name in known}, ()


def stated_arguments(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The metadata from which :func:`trained_with` reads the `arguments` again: those that were
    given or known. A default that was taken because nothing is known is not stated."""
    found = {name: arguments[name] for name in _names(entry) if name in arguments}
    return {"arguments": json.dumps(found)} if found else {}


def _names(entry: Entry) -> list[str]:
    return list(dict.fromkeys(name for each in entry.pretrained for name in each.arguments))


def _known(entry: Entry, weights: Weights) -> Mapping[str, Any] | None:
    """What is known of the arguments; ``None`` for weights that nothing is known of."""
    stated = weights.arguments
    if stated is not None:
        return _checked(entry, weights, stated)
    of_torchvision, _, name = weights.metadata.get("weights", "").rpartition("_Weights.")
    for each in entry.pretrained:
        if of_torchvision and name == each.name:
            return each.arguments
        if weights.path is not None and weights.sha256.startswith(each.sha256):
            return each.arguments
    return None


def _checked(entry: Entry, weights: Weights, stated: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _names(entry):
        kind = type(entry.defaults[name])
        if name in stated and type(stated[name]) is not kind:
            raise WeightsError(
                f"the metadata entry 'arguments' of {weights.source} has a wrong {name}",
                module=entry.name,
                expected=kind.__name__,
                got=repr(stated[name]),
                fix="extract the weights again",
            )
    return stated


def _unknown(entry: Entry, name: str) -> str:
    default = entry.defaults[name]
    others = ", ".join(f"{each.arguments[name]} for {each.name} of torchvision and what was "
                       "trained from it" for each in entry.pretrained
                       if each.arguments.get(name, default) != default)  # fmt: skip
    flag = f"--{name.replace('_', '-')}"
    return (f"{name}={default}, the default, as the weights do not say it; it is {others} "
            f"({flag}, in Python {name}=)")  # fmt: skip
