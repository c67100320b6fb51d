"""Compares a plugin's shape rule with its reference."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from trtnet.errors import ShapeError, TrtnetError, UsageError
from trtnet.plugins.axes import example_of, text_of
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
        UsageError: it fails, or gives something else.
    """
    count, listed = len(kind.inputs), ", ".join(kind.inputs)
    arrays = ", ".join("draw.array(2, 4)" for _ in kind.inputs)
    form = f"such as return cls(), [{arrays}], with an array for each of {listed}"
    try:
        given = kind.example(draw)
    except TypeError as error:
        raise UsageError("example() fails", module=kind.name, got=error, expected=form) from error
    except UsageError as error:
        required = [name for name, parameter in kind.attributes.signature.parameters.items()
                    if parameter.default is parameter.empty]  # fmt: skip
        if "example" in kind.__mro__[1].__dict__ or not required:
            raise
        raise UsageError(
            f"no example can be made for tests: {', '.join(required)} has no default",
            module=kind.name,
            fix=f"give it one, such as {required[0]}: int = 1, or declare @classmethod def "
            f"example(cls, draw): return cls({required[0]}=...), [{arrays}]",
        ) from error
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2
    plugin: Any
    rows: Any
    plugin, rows = given if is_pair else (None, None)
    fits = isinstance(plugin, kind) and isinstance(rows, (tuple, list)) and len(rows) == count
    if not fits or not all(isinstance(row, np.ndarray) for row in rows):
        raise UsageError(
            "example() gives a plugin and a list of arrays, one for each input",
            module=kind.name,
            expected=form,
            got=_described(given),
        )
    _check_axes(plugin, rows)
    return plugin, rows


def _check_axes(plugin: Plugin, arrays: Sequence[np.ndarray]) -> None:
    """Checks the inputs of ``example()`` against ``axes``."""
    if plugin.stated_axes is None:
        return
    try:
        plugin.stated_axes.bind([array.shape for array in arrays], plugin.whole_numbers)
    except ShapeError as error:
        raise UsageError(
            f"example() and axes disagree: {error.problem}",
            module=plugin.name,
            expected=error.expected,
            got=error.got,
            fix="leave example() out, or make its arrays by draw.named(...) with the text of axes",
        ) from error


def _described(given: object) -> str:
    """What ``example()`` gave, in words."""
    if isinstance(given, (tuple, list)):
        return f"{type(given).__name__} of {', '.join(map(_described, given)) or 'nothing'}"
    if isinstance(given, np.ndarray):
        return f"an array {given.shape}"
    return f"a {type(given).__name__}" if not isinstance(given, Plugin) else repr(given)


def specs_of(arrays: Sequence[Shaped], entry: Format) -> list[TensorSpec]:
    """Returns the TensorSpecs of `arrays` in the types of the format `entry`."""
    return [
        TensorSpec(tuple(array.shape), dtype)
        for array, dtype in zip(arrays, entry.inputs, strict=True)
    ]


def _check(plugin: Plugin, entry: Format, arrays: Sequence[np.ndarray]) -> None:
    specs = specs_of(arrays, entry)
    ruled = _ruled(plugin, specs)
    if tuple(spec.dtype for spec in ruled) != entry.outputs:
        raise _disagree(
            plugin,
            specs,
            f"format {entry}",
            ruled,
            "give outputs() the types of the format: x.like(shape, dtype), or state the shapes of "
            "the outputs in axes, which takes the types from formats",
        )
    computed = _computed(plugin, arrays, entry)
    if not _fits(ruled, computed):
        got = f"reference gives {_text(computed)}"
        raise _disagree(plugin, specs, got, ruled, _advice(plugin, ruled, computed))
    _check_symbolic(plugin, specs, ruled)


def _ruled(plugin: Plugin, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """What the shape rule gives, whose errors are the declaration's."""
    try:
        return plugin.rule(specs)
    except TrtnetError:
        raise
    except Exception as error:
        raise UsageError(
            "outputs() fails on an example",
            got=f"{type(error).__name__}: {error}; inputs {_text(specs)}",
            fix=_state_axes(plugin),
        ) from error


def _fits(ruled: Sequence[TensorSpec], computed: Sequence[TensorSpec]) -> bool:
    return len(computed) == len(ruled) and all(
        spec.shape == got.shape and _is_like(spec, got)
        for spec, got in zip(ruled, computed, strict=True)
    )


def _advice(plugin: Plugin, ruled: Sequence[TensorSpec], computed: Sequence[TensorSpec]) -> str:
    """What to mend where rule and reference differ."""
    rule = "outputs()" if plugin.outputs is not None else "axes"
    if len(ruled) != len(computed):
        return f"return {len(ruled)} tensors from reference(), or mend {rule} and formats"
    if any(not _is_like(a, b) for a, b in zip(ruled, computed, strict=True)):
        return "mend the output types of formats, or convert the result: .to(x.dtype)"
    return f"mend {rule}, or reference()"


def _state_axes(plugin: Plugin) -> str:
    stated = plugin.stated_axes
    if stated is None:
        return (
            f"state the shapes of the inputs, such as axes = {example_of(plugin.inputs)}; or make "
            "inputs that fit together in example(cls, draw)"
        )
    return (
        f"mend axes, now {text_of(stated.inputs)}, so that the inputs fit together: where a size "
        "must be even write it as 2*C; or make inputs in example(cls, draw)"
    )


def _computed(plugin: Plugin, arrays: Sequence[np.ndarray], entry: Format) -> list[TensorSpec]:
    import torch

    from trtnet.plugins.reference_execution import run_reference, spec_of, tensors_of

    try:
        results = run_reference(plugin, tensors_of(arrays, entry, wide=True))
    except TrtnetError:
        raise
    except Exception as error:
        fix = _state_axes(plugin)
        with contextlib.suppress(Exception):
            run_reference(plugin, tensors_of(arrays, entry))
            fix = (
                "it runs in the types of the format but not in float64, in which it is compared: "
                "make tensors with dtype=x.dtype, and convert to x.dtype rather than to float32"
            )
        raise UsageError(
            "the reference fails on an example",
            got=f"{type(error).__name__}: {error}; inputs {_text(specs_of(arrays, entry))}",
            fix=fix,
        ) from error
    if not all(isinstance(result, torch.Tensor) for result in results):
        raise UsageError(
            "the reference gives no tensor",
            expected="a torch.Tensor, or a tuple of them",
            got=", ".join(type(result).__name__ for result in results),
        )
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
        got = f"the same rule on unknown sizes gives {shapes}"
        raise _disagree(plugin, specs, got, ruled, "compute all sizes from x.shape")


def _disagree(
    plugin: Plugin,
    specs: Sequence[TensorSpec],
    got: str,
    ruled: Sequence[TensorSpec],
    fix: str,
) -> UsageError:
    has_axes = plugin.outputs is None
    given = f"{_text(ruled)} for {_text(specs)}"
    return UsageError(
        f"{'axes disagree' if has_axes else 'outputs() disagrees'} with the rest of the "
        "declaration",
        expected=f"{'axes give' if has_axes else 'outputs() gives'} {given}",
        got=got,
        fix=fix,
    )


def _text(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))
