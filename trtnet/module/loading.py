"""Matching a state_dict with the parameters and buffers of a module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trtnet.errors import WeightsError
from trtnet.names import nearest
from trtnet.tensor import Parameter
from trtnet.values import array_from
from trtnet.weights import prefixes
from trtnet.weights.container import Weights
from trtnet.weights.places import Place, shape_of

_CONVOLUTION = 4  # axes of its weights
_MOST_LISTED = 6  # of a kind of difference; more are counted
_MOST_GROUPS = 6
_MOST_SUGGESTED = 50  # suggesting is quadratic; more differences mean another architecture


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not match, as in PyTorch.

    Attributes:
        missing_keys: parameters and buffers that the state_dict lacks.
        unexpected_keys: keys that the module lacks.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


@dataclass(frozen=True)
class StateMatch:
    """How a state_dict fits a module.

    Attributes:
        arrays: the values that have a place, by key.
        missing: keys that the state_dict lacks.
        unexpected: keys that the module lacks.
        misshaped: key to (expected shape, shape of the value).
        shapes: of all values, by key.
        places: of the module, by key.
    """

    arrays: Mapping[str, np.ndarray]
    missing: list[str]
    unexpected: list[str]
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, Place]

    def error(self, name: str, strict: bool) -> WeightsError:
        """An error that says what does not fit the module of class `name`, in the order in which
        it can be mended: prefixes of keys, shapes, missing and unexpected keys. Only shapes if not
        `strict`."""
        if strict and (self.missing or self.unexpected):
            found = self._renaming()
            if found is not None and (found.prefixes or found.added or found.inside):
                return _prefixed(name, found)
        problems = [
            f"shape of {key}: expected {expected}, got {got}"
            for key, (expected, got) in self.misshaped.items()
        ]
        count, lines = len(problems), _few(problems, list(self.misshaped), "shape of")
        if strict:
            for kind, keys, others in (
                ("missing", self.missing, self.unexpected),
                ("unexpected", self.unexpected, self.missing),
            ):
                count += len(keys)
                lines += _few([f"{kind}: {k}{_similar(k, others)}" for k in keys], keys, kind)
        return WeightsError(
            f"the weights do not fit {name}: {count} problem(s)\n    " + "\n    ".join(lines),
            fix=self._fix(count),
        )

    def _renaming(self) -> prefixes.Renaming | None:
        """The prefixes that would make the keys fit; ``None`` where several do."""
        try:
            return prefixes.find(self.shapes, self.places, False, "the state_dict")
        except WeightsError:
            return None

    def _fix(self, problems: int) -> str:
        if (channels := _channels(self.misshaped)) is not None:
            return channels
        sizes = {(old[:1], new[:1]) for old, new in self.misshaped.values() if old[1:] == new[1:]}
        if problems == len(self.misshaped) and len(sizes) == 1 and all(next(iter(sizes))):
            (old,), (new,) = sizes.pop()
            return f"the weights have {new} outputs and the model {old}: make it with {new}, such "\
                f"as num_classes={new}"  # fmt: skip
        return "check that the weights belong to this architecture and num_classes"


def _prefixed(name: str, found: prefixes.Renaming) -> WeightsError:
    old, new = next((old, new) for old, new in found.names.items() if old != new)
    carried = {**found.prefixes, **(found.inside or {})}
    said = [f"{prefixes.counted(n)} the prefix `{prefix}`" for prefix, n in carried.items()]
    if found.added:
        said.append(f"the model's keys begin with `{found.added}`")
    return WeightsError(
        f"the weights do not fit {name}: {', '.join(said)}",
        expected=f"keys such as {new}",
        got=old,
        fix="model.load_state_dict(trtnet.weights.load(path, model=model)) gives them the model's "
        "keys; trtnet.weights.fitted(state_dict, model) does it for a state_dict",
    )


def _few(lines: list[str], keys: list[str], kind: str) -> list[str]:
    """All `lines` where they are few, otherwise one that counts them by the modules they are in."""
    if len(lines) <= _MOST_LISTED:
        return lines
    groups = Counter(key.partition(".")[0] for key in keys).most_common()
    shown = [f"{group}.* {count}" for group, count in groups[:_MOST_GROUPS]]
    shown += ["..."] if len(groups) > _MOST_GROUPS else []
    return [*lines[:2], f"{kind}: {len(lines) - 2} more, in all {', '.join(shown)}"]


def _channels(
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str | None:
    """What to do where the first convolution is for images of other channels."""
    _, (expected, got) = next(iter(misshaped.items()), ("", ((), ())))
    if len(expected) != _CONVOLUTION or (expected[0], *expected[2:]) != (got[:1] + got[2:]):
        return None
    return (
        f"the weights are for images of {got[1]} channel{'s' * (got[1] != 1)}, and the model takes "
        f"{expected[1]}: make it with in_channels={got[1]} (--in-channels {got[1]})"
    )


def match(
    state: Mapping[str, Any], slots: Mapping[str, Parameter], is_ignored: Callable[[str], bool]
) -> StateMatch:
    """Finds the place of each value of `state`.

    Args:
        state: arrays (numpy or torch) by key. Weights of a file without shapes take those of the
            slots.
        slots: parameters and buffers by key.
        is_ignored: whether a key that has no slot is no error.
    """
    if isinstance(state, Weights) and state.flat:
        state = state.shaped({key: slot.shape for key, slot in slots.items()})
    arrays = {key: _to_numpy(state[key], key) for key in slots if key in state}
    return StateMatch(
        arrays,
        missing=[key for key, slot in slots.items() if key not in state and not slot.optional],
        unexpected=[key for key in state if key not in slots and not is_ignored(key)],
        misshaped={
            key: (slots[key].shape, array.shape)
            for key, array in arrays.items()
            if array.shape != slots[key].shape
        },
        shapes={key: shape_of(value) for key, value in state.items()},
        places={key: Place(slot.shape, slot.optional) for key, slot in slots.items()},
    )


def _to_numpy(value: Any, key: str) -> np.ndarray:
    return array_from(value.require(key) if isinstance(value, Parameter) else value, key)


def _similar(key: str, others: list[str]) -> str:
    if len(others) > _MOST_SUGGESTED:
        return ""
    close = nearest(key, others, count=1, cutoff=0.7)
    return f" (the weights have {close[0]})" if close else ""
