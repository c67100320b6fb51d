"""The part of a network that differs from another network, and its values."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from trtnet.graph.types import Graph, Layer
from trtnet.reference.compiler import compile
from trtnet.reference.regions import LayerOrRegion, Region, group_regions
from trtnet.reference.runner import computed_tensors, execute


def values_of(graph: Graph, arguments: list[Tensor]) -> dict[str, Tensor]:
    """Every tensor of `graph` but its constants, for the network inputs `arguments`."""
    values = execute(compile(graph, outputs=computed_tensors(graph)), arguments)
    return {**dict(zip(graph.inputs, arguments, strict=True)), **values}


def suffix(graph: Graph, other: Graph) -> Graph:
    """What of `other` has to run where all values of `graph` are known: the layers that `graph`
    lacks, and all that read their outputs, directly or not. Its inputs are tensors of `graph`; its
    outputs are those of `other` that may differ."""
    known = {unit.outputs: unit for unit in group_regions(graph)}
    same, constants = set(graph.inputs), dict[str, Layer]()
    changed: list[LayerOrRegion] = []
    for unit in group_regions(other):
        inputs = (name for name in unit.inputs if name is not None)
        if isinstance(unit, Layer) and _is_constant(unit):
            constants[unit.outputs[0]] = unit
        if all(name in same for name in inputs) and known.get(unit.outputs) == unit:
            same.update(unit.outputs)
        elif not _is_constant(unit):
            changed.append(unit)
    taken = dict.fromkeys(name for unit in changed for name in unit.inputs if name is not None)
    made = {name for unit in changed for name in unit.outputs}
    return dataclasses.replace(
        other,
        inputs=tuple(name for name in taken if name not in made and name not in constants),
        outputs=tuple(name for name in other.outputs if name in made),
        layers=(
            *(constants[name] for name in taken if name in constants),
            *(layer for unit in changed for layer in _layers(unit)),
        ),
    )


def _is_constant(unit: LayerOrRegion) -> bool:
    return unit.type == "CONSTANT"


def _layers(unit: LayerOrRegion) -> list[Layer]:
    if isinstance(unit, Region):
        return [layer for inner in unit.units for layer in _layers(inner)]
    return [unit]
