"""Runs recipes: computes the weights of an engine of a state_dict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import bfloat16, to_storage
from trtnet.errors import PlanError
from trtnet.recipes.memory import Extent
from trtnet.recipes.operations import OPERATIONS
from trtnet.recipes.steps import KEY, RANGE, VIEW, Step

ATEN = "aten."
_MOST_REPEATED = 1 << 28  # elements of a view


def evaluate(
    steps: Sequence[Step],
    wanted: Iterable[int],
    key: Callable[[str], np.ndarray],
    amax: Callable[[str], float],
) -> Iterator[tuple[int, np.ndarray]]:
    """The values of the steps `wanted`, one by one; what no other needs any more is dropped.

    Args:
        steps: each computed of earlier ones.
        wanted: numbers of steps.
        key: gives the values of a key, in the type that :func:`key_array` makes.
        amax: gives the range of a tensor.

    Raises:
        PlanError: a recipe that does not fit the values, as one that was changed.
    """
    order = sorted(set(wanted))
    needed = _needed(steps, order)
    uses = Counter(source for number in needed for source in set(_sources(steps[number])))
    values: dict[int, np.ndarray] = {}
    targets = set(order)
    for number in needed:
        step = steps[number]
        given = [None if source is None else values[source] for source in step.of]
        values[number] = _value(step, given, key, amax)
        if number in targets:
            yield number, values[number]
        for source in set(_sources(step)):
            uses[source] -= 1
            if not uses[source]:
                del values[source]
        if not uses[number]:
            del values[number]


def key_array(values: np.ndarray, dtype: str, strides: Sequence[int] | None) -> np.ndarray:
    """`values` as the memory of a key was when the network was defined: in its type, bfloat16 as
    bits, and where `strides` are given with these."""
    if dtype == "bfloat16":
        values = to_storage(values, bfloat16)
    elif values.dtype.name != dtype:
        values = values.astype(np.dtype(dtype))
    if strides is None:
        return np.asarray(values, order="C")
    order = sorted(range(values.ndim), key=lambda axis: -strides[axis])
    moved = np.ascontiguousarray(values.transpose(order))
    back: np.ndarray = moved.transpose(np.argsort(order))
    return back


def _needed(steps: Sequence[Step], wanted: Iterable[int]) -> list[int]:
    found: set[int] = set()
    waiting = list(wanted)
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += _sources(steps[number])
    return sorted(found)


def _sources(step: Step) -> list[int]:
    return [source for source in step.of if source is not None]


def _value(
    step: Step,
    given: Sequence[np.ndarray | None],
    key: Callable[[str], np.ndarray],
    amax: Callable[[str], float],
) -> np.ndarray:
    options: Mapping[str, Any] = step.options
    try:
        if step.op == KEY:
            return key(options["key"])
        if step.op == RANGE:
            return np.array(amax(options["tensor"]), np.float32)
        if step.op == VIEW and given[0] is not None:
            return view(given[0], **options)
        if step.op in OPERATIONS:
            made: np.ndarray = OPERATIONS[step.op](*given, **options)
            return made
        if step.op.startswith(ATEN):
            from trtnet.recipes import torch_operations  # needs torch

            found: np.ndarray = torch_operations.compute(step.op.removeprefix(ATEN), given, options)
            return found
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise _unfit(step, error) from error
    raise _unfit(step, "no such operation")


def view(
    base: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], dtype: str
) -> np.ndarray:
    """The elements of `dtype` at `offset` bytes in the memory of `base`, which has no holes.

    Raises:
        ValueError: they are not inside of it.
    """
    order = sorted(range(base.ndim), key=lambda axis: -base.strides[axis])
    flat = np.ascontiguousarray(base.transpose(order)).reshape(-1).view(np.uint8)
    kind = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    if math.prod(shape) > max(_MOST_REPEATED, base.size):
        raise ValueError("strides that repeat the values too often")
    low, high = Extent(offset, tuple(shape), tuple(strides), dtype, kind.itemsize).bounds
    if low < 0 or high > flat.size:
        raise ValueError("a view outside of its memory")
    found: np.ndarray = np.ndarray(tuple(shape), kind, flat, offset, tuple(strides))
    return found


def _unfit(step: Step, reason: object) -> PlanError:
    return PlanError(
        "a recipe of the sidecar cannot be followed",
        module=step.options.get("key"),
        got=f"{step.op!r:.80}: {reason}",
        fix="build the engine again",
    )
