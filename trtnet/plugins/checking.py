"""Holds a plugin's shape rule against its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import ShapeError, TrtnetError, UsageError
from trtnet.plugins.examples import Draw, as_type
from trtnet.plugins.sizes import OPERATIONS, evaluate
from trtnet.plugins.spec import Format, TensorSpec, numbered

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

_EXAMPLES = 4


def check_rule(made: type[Plugin]) -> None:
    """Runs the reference on a few tiny inputs in each format.

    Raises:
        UsageError: shapes, types or a number of outputs that the rule does not give; or an
            example that the reference cannot take.
    """
    for seed in range(_EXAMPLES):
        for entry in made.kernels:
            plugin, arrays = example(made, Draw(seed))
            _check(
                plugin, entry, [as_type(a, t) for a, t in zip(arrays, entry.inputs, strict=True)]
            )


def example(made: type[Plugin], draw: Draw) -> tuple[Plugin, Sequence[np.ndarray]]:
    """What ``made.example`` gives, checked."""
    plugin, arrays = made.example(draw)
    if not isinstance(plugin, made) or len(arrays) != len(made.inputs):
        raise UsageError(
            "example() gives a plugin and an array for each input",
            module=made.name,
            expected=", ".join(made.inputs),
            got=f"{plugin!r} and {len(arrays)} arrays",
        )
    return plugin, arrays


def specs_of(arrays: Sequence[Any], entry: Format) -> list[TensorSpec]:
    """What the shape rule sees of `arrays` in the format `entry`."""
    return [
        TensorSpec(tuple(array.shape), dtype)
        for array, dtype in zip(arrays, entry.inputs, strict=True)
    ]


def _check(plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray]) -> None:
    specs = specs_of(arrays, entry)
    ruled = plugin.rule(specs)
    if tuple(spec.dtype for spec in ruled) != entry.outputs:
        raise _disagree(plugin, specs, f"format {entry}", ruled)
    computed = _computed(plugin, arrays, entry)
    fits = len(computed) == len(ruled) and all(
        spec.shape == got.shape and _is_like(spec, got)
        for spec, got in zip(ruled, computed, strict=True)
    )
    if not fits:
        raise _disagree(plugin, specs, f"reference gives {_text(computed)}", ruled)
    _check_symbolic(plugin, specs, ruled)


def _computed(plugin: Plugin, arrays: Sequence[np.ndarray], entry: Format) -> list[TensorSpec]:
    from trtnet.plugins.running import run_reference, spec_of, tensors_of

    try:
        results = run_reference(plugin, tensors_of(arrays, entry, wide=True))
    except TrtnetError:
        raise
    except Exception as error:
        raise UsageError(
            "the reference fails on an example",
            module=plugin.name,
            got=f"{type(error).__name__}: {error}; inputs {_text(specs_of(arrays, entry))}",
            fix="declare axes, or example(cls, draw), so that the inputs fit together",
        ) from error
    return [spec_of(result) for result in results]


def _is_like(spec: TensorSpec, got: TensorSpec) -> bool:
    """Whether the types differ at most in their width, as the reference computes in float64."""
    return spec.dtype is got.dtype or (spec.dtype.is_floating_point and got.dtype.is_floating_point)


def _check_symbolic(
    plugin: Plugin, specs: Sequence[TensorSpec], ruled: Sequence[TensorSpec]
) -> None:
    """The rule on unknown sizes gives the same, if it works there at all."""
    unknown = numbered([spec.like([-1] * spec.ndim) for spec in specs])
    try:
        symbolic = plugin.rule(unknown)
    except ShapeError:  # it needs fixed sizes, which networks can give
        return
    shapes = [
        tuple(
            evaluate(size, lambda i, axis: specs[i].shape[axis], lambda op, *n: OPERATIONS[op](*n))
            for size in spec.shape
        )
        for spec in symbolic
    ]
    if shapes != [spec.shape for spec in ruled]:
        raise _disagree(plugin, specs, f"the same rule on unknown sizes gives {shapes}", ruled)


def _disagree(
    plugin: Plugin, specs: Sequence[TensorSpec], got: str, ruled: Sequence[TensorSpec]
) -> UsageError:
    return UsageError(
        "outputs() disagrees with the rest of the declaration",
        module=plugin.name,
        expected=f"outputs() gives {_text(ruled)} for {_text(specs)}",
        got=got,
    )


def _text(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))
