"""Matching a state_dict with the parameters and buffers of a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trtnet.errors import WeightsError
from trtnet.names import nearest
from trtnet.tensor import Parameter
from trtnet.values import array_from
from trtnet.weights.container import Weights

_CONVOLUTION = 4  # axes of its weights
_PREFIX = "module."  # DataParallel puts it in front of every key
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
    """

    arrays: Mapping[str, np.ndarray]
    missing: list[str]
    unexpected: list[str]
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def error(self, name: str, strict: bool) -> WeightsError:
        """An error that lists all that does not fit the module of class `name`; only shapes if
        not `strict`."""
        problems = []
        if strict:
            problems += [f"missing: {k}{_similar(k, self.unexpected)}" for k in self.missing]
            problems += [f"unexpected: {k}{_similar(k, self.missing)}" for k in self.unexpected]
        problems += [
            f"shape of {key}: expected {expected}, got {got}"
            for key, (expected, got) in self.misshaped.items()
        ]
        return WeightsError(
            f"the weights do not fit {name}: {len(problems)} problem(s)\n    "
            + "\n    ".join(problems),
            fix=_channels(self.misshaped)
            or "check that the weights belong to this architecture and num_classes",
        )


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
        state: arrays (numpy or torch) by key; a ``module.`` in front of every key is dropped.
            Weights of a file without shapes take those of the slots.
        slots: parameters and buffers by key.
        is_ignored: whether a key that has no slot is no error.
    """
    if state and all(key.startswith(_PREFIX) for key in state):
        state = {key.removeprefix(_PREFIX): value for key, value in state.items()}
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
    )


def _to_numpy(value: Any, key: str) -> np.ndarray:
    return array_from(value.require(key) if isinstance(value, Parameter) else value, key)


def _similar(key: str, others: list[str]) -> str:
    if len(others) > _MOST_SUGGESTED:
        return ""
    close = nearest(key, others, count=1, cutoff=0.7)
    return f" (the weights have {close[0]})" if close else ""
