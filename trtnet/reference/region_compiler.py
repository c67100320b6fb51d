"""Compiles loops and conditionals into modules that hold their bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import fx, nn

from trtnet.errors import NetworkError, located
from trtnet.graph.types import Graph, Layer
from trtnet.reference.control import Conditional, Loop, LoopOutput, Scan
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.regions import LayerOrRegion, Region, needed
from trtnet.reference.type_rules import check_types

_CPU = torch.device("cpu")
_LAST = "LAST_VALUE"
Result = TypeVar("Result")


class Scope(Protocol):
    """The compiler of the layers around a region; see
    :class:`trtnet.reference.compiler.Compiler`."""

    @property
    def graph(self) -> Graph:
        """What is compiled."""

    @property
    def float64(self) -> bool:
        """Whether floating values are computed in double precision."""

    @property
    def constants(self) -> Mapping[str, Layer]:
        """The CONSTANT layers so far, by the name of their tensor."""

    def value(self, name: str, device: torch.device) -> fx.Node:
        """The value of tensor `name` on `device`."""

    def device_of(self, name: str) -> torch.device:
        """Where the value of tensor `name` is computed."""

    def share_device(self, name: str, source: str | None) -> None:
        """Puts `name`, integers with the values of `source`, on the CPU if `source` is there."""

    def body(
        self,
        units: Iterable[LayerOrRegion],
        inputs: Iterable[str],
        outputs: Iterable[tuple[str, torch.device]],
    ) -> fx.GraphModule:
        """A module for `units` alone: it takes the tensors `inputs` and returns `outputs`."""

    def call_region(self, region: Region, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Calls `module`, which computes `region`; its outputs become the region's."""


class _LoopLayers:
    """The boundary layers of a loop, and the names of the tensors that pass them.

    Attributes:
        iterators: give the body slices of tensors.
        recurrences: give the body what it computed in the iteration before.
        outputs: give the layers around the loop its results.
        limits: end the loop.
        boundary: all of them.
        interior: what is inside besides them.
    """

    def __init__(self, region: Region) -> None:
        self.iterators = region.boundary("ITERATOR")
        self.recurrences = region.boundary("RECURRENCE")
        self.outputs = region.boundary("LOOP_OUTPUT")
        self.limits = region.boundary("TRIP_LIMIT")
        self.boundary = [*self.iterators, *self.recurrences, *self.outputs, *self.limits]
        self.interior = [unit for unit in region.units if unit not in self.boundary]

    @property
    def states(self) -> list[str]:
        """The recurrent values."""
        return [layer.outputs[0] for layer in self.recurrences]

    @property
    def stacked(self) -> list[Layer]:
        """The outputs that stack the values of all iterations."""
        return [layer for layer in self.outputs if layer.attributes["kind"] != _LAST]

    @property
    def leaving(self) -> list[tuple[str, str]]:
        """What the body returns, each with the tensor it becomes: states, then stacked values."""
        states = [(_input(layer, 1), layer.outputs[0]) for layer in self.recurrences]
        return states + [(_input(layer, 0), layer.outputs[0]) for layer in self.stacked]

    def limit(self, kind: str) -> str | None:
        """The tensor of the trip limit of `kind`, ``COUNT`` or ``WHILE``."""
        found = {layer.attributes["kind"]: _input(layer, 0) for layer in self.limits}
        return found.get(kind)


def compile_loop(scope: Scope, region: Region) -> None:
    """Adds a call of a :class:`Loop` for `region`.

    Raises:
        NetworkError: a loop that TensorRT refuses.
    """
    layers = _LoopLayers(region)
    _check_loop(scope, layers)
    for layer in (*layers.iterators, *layers.recurrences, *layers.outputs):
        scope.share_device(layer.outputs[0], layer.inputs[0])
    condition = layers.limit("WHILE")
    wanted = [name for name, _ in layers.leaving] + ([condition] if condition else [])
    captured = _captured(scope, region, layers.interior, wanted)
    entering = [*(layer.outputs[0] for layer in layers.iterators), *layers.states, *captured]
    leaving = [(name, scope.device_of(target)) for name, target in layers.leaving]
    loop = Loop(
        scope.body(layers.interior, entering, leaving),
        *_condition(scope, layers, entering),
        [Scan(layer.attributes["axis"], layer.attributes["reverse"]) for layer in layers.iterators],
        _for_each(layers.outputs, lambda layer: _loop_output(scope, layer, layers)),
    )
    scope.call_region(region, loop, _loop_arguments(scope, layers, captured))


def _check_loop(scope: Scope, layers: _LoopLayers) -> None:
    if not layers.limits:
        raise NetworkError("a loop without a trip limit", fix="add one: loop.add_trip_limit")
    _for_each(layers.boundary, lambda layer: _check_boundary(scope, layer))


def _check_boundary(scope: Scope, layer: Layer) -> None:
    check_types(scope.graph, layer)
    if layer.type == "RECURRENCE" and len(layer.inputs) < 2:
        raise NetworkError("a recurrence has no next value", fix="give it input 1")


def _condition(
    scope: Scope, layers: _LoopLayers, entering: list[str]
) -> tuple[nn.Module | None, list[int]]:
    """The module that computes whether another iteration begins, and the positions of its arguments
    among those of the body; None where the loop has no condition."""
    name = layers.limit("WHILE")
    if name is None:
        return None, []
    units = needed(layers.interior, [name])
    used = _used(units, [name])
    chosen = [i for i, entered in enumerate(entering) if entered in used]
    return scope.body(units, [entering[i] for i in chosen], [(name, _CPU)]), chosen


def _loop_output(scope: Scope, layer: Layer, layers: _LoopLayers) -> LoopOutput:
    source, kind, states = _input(layer, 0), layer.attributes["kind"], layers.states
    if kind == _LAST and source not in states:
        raise NetworkError(
            "the last value of a tensor that is not a recurrence of the same loop",
            expected=f"one of {', '.join(states)}",
            got=source,
        )
    position = states.index(source) if kind == _LAST else len(states) + layers.stacked.index(layer)
    info = scope.graph.tensors[layer.outputs[0]]
    dtype = execution_dtype(info.dtype, scope.float64)
    return LoopOutput(kind, layer.attributes["axis"], position, info.shape, dtype)


def _loop_arguments(scope: Scope, layers: _LoopLayers, captured: list[str]) -> tuple[Any, ...]:
    """The arguments of :meth:`Loop.forward`."""

    def entry(layer: Layer) -> fx.Node:
        return scope.value(_input(layer, 0), scope.device_of(layer.outputs[0]))

    count = layers.limit("COUNT")
    return (
        None if count is None else scope.value(count, _CPU),
        tuple(map(entry, layers.iterators)),
        tuple(map(entry, layers.recurrences)),
        tuple(scope.value(name, scope.device_of(name)) for name in captured),
        tuple(_for_each(layers.outputs, lambda layer: _length(scope, layer))),
    )


def _length(scope: Scope, layer: Layer) -> fx.Node | None:
    """The number of iterations that a stacked output has room for; None for a last value."""
    if layer.attributes["kind"] == _LAST:
        return None
    if len(layer.inputs) < 2:
        raise NetworkError(
            "a loop output that stacks iterations has no length",
            fix="give it input 1, a number made before the loop",
        )
    return scope.value(_input(layer, 1), _CPU)


def compile_conditional(scope: Scope, region: Region) -> None:
    """Adds a call of a :class:`Conditional` for `region`; a branch is what its outputs need.

    Raises:
        NetworkError: a conditional that TensorRT refuses.
    """
    outputs, conditions = region.boundary("CONDITIONAL_OUTPUT"), region.boundary("CONDITION")
    if not conditions:
        raise NetworkError("a conditional without a condition")
    _for_each(outputs, lambda layer: check_types(scope.graph, layer))
    for layer in outputs:
        scope.share_device(layer.outputs[0], layer.inputs[0])
    interior = [unit for unit in region.units if unit not in (*outputs, *conditions)]
    ends = [[_input(layer, branch) for layer in outputs] for branch in (0, 1)]
    then, otherwise = (needed(interior, names) for names in ends)
    _check_branches(then, otherwise)
    captured = _captured(scope, region, [*then, *otherwise], [*ends[0], *ends[1]])
    devices = [scope.device_of(layer.outputs[0]) for layer in outputs]
    branches = [
        scope.body(units, captured, zip(names, devices, strict=True))
        for units, names in zip((then, otherwise), ends, strict=True)
    ]
    arguments = (
        scope.value(_input(conditions[0], 0), _CPU),
        tuple(scope.value(name, scope.device_of(name)) for name in captured),
    )
    scope.call_region(region, Conditional(*branches), arguments)


def _check_branches(then: list[LayerOrRegion], otherwise: list[LayerOrRegion]) -> None:
    for unit in then:
        if unit in otherwise and unit.type != "CONDITIONAL_INPUT":
            raise NetworkError(
                "a layer belongs to both branches of a conditional",
                module=unit.name,
                fix="give each branch a layer of its own",
            )


def _for_each(layers: Iterable[Layer], function: Callable[[Layer], Result]) -> list[Result]:
    """The results of `function` for `layers`; its errors name the layer."""
    results = []
    for layer in layers:
        with located(layer.name):
            results.append(function(layer))
    return results


def _input(layer: Layer, position: int) -> str:
    name = layer.inputs[position]
    assert name is not None, f"{layer.name}: input {position} is not connected"
    return name


def _used(units: Iterable[LayerOrRegion], names: Iterable[str]) -> set[str | None]:
    return {*names, *(name for unit in units for name in unit.inputs)}


def _captured(
    scope: Scope, region: Region, units: Iterable[LayerOrRegion], names: Iterable[str]
) -> list[str]:
    """What `units` and `names` take from outside of `region`; constants need no capturing."""
    used = _used(units, names)
    return [name for name in region.inputs if name in used and name not in scope.constants]
