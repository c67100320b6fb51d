"""Compares a plugin's shape rule with its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from trtnet.errors import ShapeError, TrtnetError, UsageError
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.examples import Draw, as_type
from trtnet.plugins.spec import Format, TensorSpec, with_symbolic_sizes
from trtnet.plugins.symbolic_sizes import OPERATIONS, AnySize, evaluate

_EXAMPLES = 4  # seeds


class Shaped(Protocol):
    """An array or tensor, as far as its shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""


def check_rule(kind: type[Plugin]) -> None:
    """Runs the reference on a few tiny inputs in each format, and compares it with the rule.

    Raises:
        UsageError: shapes, types or the number of outputs differ, or the reference fails on an
            example.
    """
    for seed in range(_EXAMPLES):
        for entry in kind.kernels:
            plugin, drawn = example(kind, Draw(seed))
            arrays = [as_type(a, t) for a, t in zip(drawn, entry.inputs, strict=True)]
            _check(plugin, entry, arrays)


def example(kind: type[Plugin], draw: Draw) -> tuple[Plugin, Sequence[np.ndarray]]:
    """Returns the plugin and the inputs of ``kind.example``, checked.

    Raises:
        UsageError: it gives no such plugin, or another number of inputs.
    """
    plugin, arrays = kind.example(draw)
    if not isinstance(plugin, kind) or len(arrays) != len(kind.inputs):
        raise UsageError(
            "example() gives a plugin and an array for each input",
            module=kind.name,
            expected=", ".join(kind.inputs),
            got=f"{plugin!r} and {len(arrays)} arrays",
        )
    return plugin, arrays


def specs_of(arrays: Sequence[Shaped], entry: Format) -> list[TensorSpec]:
    """Returns the TensorSpecs of `arrays` in the types of the format `entry`."""
    return [
        TensorSpec(tuple(array.shape), dtype)
        for array, dtype in zip(arrays, entry.inputs, strict=True)
    ]


def _check(plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray]) -> None:
    specs = specs_of(arrays, entry)
    ruled = plugin.rule(specs)
    if tuple(spec.dtype for spec in ruled) != entry.outputs:
        raise _disagree(specs, f"format {entry}", ruled)
    computed = _computed(plugin, arrays, entry)
    fits = len(computed) == len(ruled) and all(
        spec.shape == got.shape and _is_like(spec, got)
        for spec, got in zip(ruled, computed, strict=True)
    )
    if not fits:
        raise _disagree(specs, f"reference gives {_text(computed)}", ruled)
    _check_symbolic(plugin, specs, ruled)


def _computed(plugin: Plugin, arrays: Sequence[np.ndarray], entry: Format) -> list[TensorSpec]:
    from trtnet.plugins.reference_execution import (  # needs torch
        run_reference,
        spec_of,
        tensors_of,
    )

    try:
        results = run_reference(plugin, tensors_of(arrays, entry, wide=True))
    except TrtnetError:
        raise
    except Exception as error:
        raise UsageError(
            "the reference fails on an example",
            got=f"{type(error).__name__}: {error}; inputs {_text(specs_of(arrays, entry))}",
            fix="declare axes, or example(cls, draw), so that the inputs fit together",
        ) from error
    return [spec_of(result) for result in results]


def _is_like(spec: TensorSpec, got: TensorSpec) -> bool:
    """Returns whether the types are equal, or both floating: the reference runs in float64."""
    return spec.dtype is got.dtype or (spec.dtype.is_floating_point and got.dtype.is_floating_point)


def _check_symbolic(
    plugin: Plugin, specs: Sequence[TensorSpec], ruled: Sequence[TensorSpec]
) -> None:
    """Checks that the rule gives the same shapes when all sizes are unknown."""
    unknown = with_symbolic_sizes([spec.like([-1] * spec.ndim) for spec in specs])
    try:
        symbolic = plugin.rule(unknown)
    except ShapeError:  # the rule needs fixed sizes, and networks can have them
        return
    sizes = [spec.fixed_shape for spec in specs]

    def value(size: AnySize) -> int:
        return evaluate(size, lambda i, axis: sizes[i][axis], lambda op, a, b: OPERATIONS[op](a, b))

    shapes = [tuple(map(value, spec.shape)) for spec in symbolic]
    if shapes != [spec.shape for spec in ruled]:
        raise _disagree(specs, f"the same rule on unknown sizes gives {shapes}", ruled)


def _disagree(specs: Sequence[TensorSpec], got: str, ruled: Sequence[TensorSpec]) -> UsageError:
    return UsageError(
        "outputs() disagrees with the rest of the declaration",
        expected=f"outputs() gives {_text(ruled)} for {_text(specs)}",
        got=got,
    )


def _text(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))
