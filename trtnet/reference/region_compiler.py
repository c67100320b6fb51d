"""Compiles loops and conditionals into modules that hold their bodies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from trtnet.errors import NetworkError
from trtnet.graph.types import Layer
from trtnet.reference.control import Collected, Conditional, Loop, Scan
from trtnet.reference.dtypes import execution_dtype
from trtnet.reference.regions import Region, Unit, needed
from trtnet.reference.types import check

if TYPE_CHECKING:
    from trtnet.reference.compiler import Compiler

_HOST = torch.device("cpu")
_BOUNDARY = ("ITERATOR", "RECURRENCE", "LOOP_OUTPUT", "TRIP_LIMIT")


def compile_loop(compiler: Compiler, region: Region) -> None:
    """Adds a call of a :class:`Loop` for `region`.

    Raises:
        NetworkError: a loop that TensorRT refuses.
    """
    iterators, recurrences, outputs, limits = (region.boundary(kind) for kind in _BOUNDARY)
    boundary = [*iterators, *recurrences, *outputs, *limits]
    _check_loop(compiler, region, boundary)
    for layer in (*iterators, *recurrences, *outputs):
        compiler.follow(layer.outputs[0], layer.inputs[0])
    states = [layer.outputs[0] for layer in recurrences]
    lined_up = [layer for layer in outputs if layer.attributes["kind"] != "LAST_VALUE"]
    leaving = [(_input(layer, 1), layer.outputs[0]) for layer in recurrences]
    leaving += [(_input(layer, 0), layer.outputs[0]) for layer in lined_up]
    ends = {layer.attributes["kind"]: _input(layer, 0) for layer in limits}

    interior = [unit for unit in region.units if unit not in boundary]
    wanted = [name for name, _ in leaving] + ([ends["WHILE"]] if "WHILE" in ends else [])
    captured = _captured(compiler, region, interior, wanted)
    entering = [*(layer.outputs[0] for layer in iterators), *states, *captured]
    body = compiler.body(
        interior, entering, [(name, compiler.place(place)) for name, place in leaving]
    )
    condition, chosen = None, []
    if "WHILE" in ends:
        units = needed(interior, [ends["WHILE"]])
        used = _used(units, [ends["WHILE"]])
        chosen = [i for i, name in enumerate(entering) if name in used]
        condition = compiler.body(units, [entering[i] for i in chosen], [(ends["WHILE"], _HOST)])
    loop = Loop(
        body,
        condition,
        chosen,
        [Scan(layer.attributes["axis"], layer.attributes["reverse"]) for layer in iterators],
        [_collected(compiler, layer, states, lined_up) for layer in outputs],
    )
    arguments = (
        compiler.value(ends["COUNT"], _HOST) if "COUNT" in ends else None,
        tuple(_placed(compiler, _input(layer, 0), layer.outputs[0]) for layer in iterators),
        tuple(_placed(compiler, _input(layer, 0), layer.outputs[0]) for layer in recurrences),
        tuple(compiler.value(name, compiler.place(name)) for name in captured),
        tuple(_length(compiler, layer) for layer in outputs),
    )
    compiler.call_region(region, loop, arguments)


def compile_conditional(compiler: Compiler, region: Region) -> None:
    """Adds a call of a :class:`Conditional` for `region`; a branch is what its outputs need.

    Raises:
        NetworkError: a conditional that TensorRT refuses.
    """
    outputs, conditions = region.boundary("CONDITIONAL_OUTPUT"), region.boundary("CONDITION")
    if not conditions:
        raise NetworkError("a conditional without a condition", module=region.name)
    for layer in outputs:
        check(compiler.graph, layer)
        compiler.follow(layer.outputs[0], layer.inputs[0])
    interior = [unit for unit in region.units if unit not in (*outputs, *conditions)]
    ends = [[_input(layer, branch) for layer in outputs] for branch in (0, 1)]
    then, otherwise = (needed(interior, names) for names in ends)
    shared = [unit for unit in then if unit in otherwise and unit.type != "CONDITIONAL_INPUT"]
    if shared:
        raise NetworkError(
            "a layer belongs to both branches of a conditional",
            module=shared[0].name,
            fix="give each branch a layer of its own",
        )
    captured = _captured(compiler, region, [*then, *otherwise], [*ends[0], *ends[1]])
    branches = [
        compiler.body(
            units,
            captured,
            [(n, compiler.place(o.outputs[0])) for n, o in zip(names, outputs, strict=True)],
        )
        for units, names in zip((then, otherwise), ends, strict=True)
    ]
    arguments = (
        compiler.value(_input(conditions[0], 0), _HOST),
        tuple(compiler.value(name, compiler.place(name)) for name in captured),
    )
    compiler.call_region(region, Conditional(*branches), arguments)


def _check_loop(compiler: Compiler, region: Region, boundary: Iterable[Layer]) -> None:
    if not region.boundary("TRIP_LIMIT"):
        raise NetworkError(
            "a loop without a trip limit", module=region.name, fix="add one: loop.add_trip_limit"
        )
    for layer in boundary:
        check(compiler.graph, layer)
        if layer.type == "RECURRENCE" and len(layer.inputs) < 2:
            raise NetworkError(
                "a recurrence has no next value", module=layer.name, fix="give it input 1"
            )


def _input(layer: Layer, position: int) -> str:
    name = layer.inputs[position]
    assert name is not None, f"{layer.name}: input {position} is not connected"
    return name


def _used(units: Iterable[Unit], names: Iterable[str]) -> set[str | None]:
    return {*names, *(name for unit in units for name in unit.inputs)}


def _captured(
    compiler: Compiler, region: Region, units: Iterable[Unit], names: Iterable[str]
) -> list[str]:
    """What `units` and `names` take from outside of `region`; constants are everywhere."""
    used = _used(units, names)
    return [name for name in region.inputs if name in used and name not in compiler.constants]


def _placed(compiler: Compiler, name: str, place: str) -> object:
    return compiler.value(name, compiler.place(place))


def _length(compiler: Compiler, layer: Layer) -> object:
    if layer.attributes["kind"] == "LAST_VALUE":
        return None
    if len(layer.inputs) < 2:
        raise NetworkError(
            "a loop output that lines up iterations has no length",
            module=layer.name,
            fix="give it input 1, a number made before the loop",
        )
    return compiler.value(_input(layer, 1), _HOST)


def _collected(
    compiler: Compiler, layer: Layer, states: list[str], lined_up: list[Layer]
) -> Collected:
    source, kind = _input(layer, 0), layer.attributes["kind"]
    if kind == "LAST_VALUE" and source not in states:
        raise NetworkError(
            "the last value of a tensor that is not a recurrence of the same loop",
            module=layer.name,
            expected=f"one of {', '.join(states)}",
            got=source,
        )
    position = states.index(source) if kind == "LAST_VALUE" else len(states) + lined_up.index(layer)
    info = compiler.graph.tensors[layer.outputs[0]]
    dtype = execution_dtype(info.dtype, compiler.float64, info.name)
    return Collected(kind, layer.attributes["axis"], position, info.shape, dtype)
