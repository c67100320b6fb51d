"""Loops and conditionals: which layers are inside of which.

TensorRT keeps a network flat. Only the boundary layers know their loop or conditional; a layer is
inside of it if it depends on what enters there and not on what leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtnet.errors import NetworkError
from trtnet.graph.reader import sort
from trtnet.graph.types import Graph, Layer

_EXITS = ("LOOP_OUTPUT", "CONDITIONAL_OUTPUT")
_DEEPEST = 50  # regions around a layer; those inside of a region are compiled by recursion
_NOWHERE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Region:
    """A loop or a conditional with everything inside; one step among the layers around it.

    Attributes:
        name: of the loop or conditional.
        type: ``"LOOP"`` or ``"CONDITIONAL"``.
        units: the layers and regions inside, boundary layers included, in execution order.
        inputs: names of the tensors it takes from outside.
        outputs: names of the tensors that its output layers make.
    """

    name: str
    type: str
    units: tuple[LayerOrRegion, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def boundary(self, type_name: str) -> list[Layer]:
        """Its own boundary layers of type `type_name`, without those of regions inside."""
        found = (unit for unit in self.units if isinstance(unit, Layer))
        return [layer for layer in found if layer.type == type_name and _owner(layer) == self.name]


LayerOrRegion = Layer | Region


def group_regions(graph: Graph) -> tuple[LayerOrRegion, ...]:
    """The layers of `graph`, with those inside of a loop or conditional grouped into regions.

    Raises:
        NetworkError: a tensor of one loop or conditional is used in another beside it, or they
            are nested more than 50 deep.
    """
    if all(_owner(layer) is None for layer in graph.layers):
        return graph.layers
    scopes, around = _scopes(graph.layers)
    members = []
    for layer, scope in zip(graph.layers, scopes, strict=True):
        path = sorted(scope, key=lambda region: len(around[region]))
        if any(set(path[:depth]) != around[region] for depth, region in enumerate(path)):
            raise NetworkError(
                "a tensor leaves its loop or conditional other than by an output layer",
                module=layer.name,
                got=", ".join(path),
            )
        members.append((layer, path))
    return tuple(sort(_group(members, 0), graph.inputs))


def needed(units: Sequence[LayerOrRegion], names: Iterable[str]) -> list[LayerOrRegion]:
    """Those of `units` (in execution order) that the tensors `names` depend on."""
    wanted, kept = set(names), []
    for unit in reversed(units):
        if wanted.intersection(unit.outputs):
            kept.append(unit)
            wanted.update(name for name in unit.inputs if name is not None)
    return kept[::-1]


def _owner(layer: Layer) -> str | None:
    return layer.attributes.get("loop") or layer.attributes.get("conditional")


def _scopes(
    layers: Sequence[Layer],
) -> tuple[list[frozenset[str]], dict[str, frozenset[str]]]:
    """The regions each layer is inside of, and the regions around each region."""
    made: dict[str, frozenset[str]] = {}
    around: dict[str, frozenset[str]] = {}
    scopes: list[frozenset[str]] = []
    while True:  # recurrences lead back to earlier layers: repeat until nothing changes
        before, scopes = (dict(made), dict(around)), []
        for layer in layers:
            owner = _owner(layer)
            scope = _NOWHERE.union(*(made.get(name or "", _NOWHERE) for name in layer.inputs))
            if owner is not None:
                around[owner] = around.get(owner, _NOWHERE) | (scope - {owner})
                scope = around[owner] | {owner}
            if len(scope) > _DEEPEST:
                raise NetworkError(
                    "loops and conditionals are nested too deeply",
                    module=layer.name,
                    expected=f"at most {_DEEPEST} around a layer",
                    got=len(scope),
                )
            scopes.append(scope)
            leaves = scope - {owner} if layer.type in _EXITS else scope
            made.update((name, leaves) for name in layer.outputs)
        if before == (made, around):
            return scopes, around


def _group(members: Sequence[tuple[Layer, list[str]]], depth: int) -> list[LayerOrRegion]:
    """Layers at `depth` as they are, deeper ones as regions."""
    units: list[LayerOrRegion] = []
    groups: dict[str, list[tuple[Layer, list[str]]]] = {}
    for layer, path in members:
        if len(path) == depth:
            units.append(layer)
        else:
            groups.setdefault(path[depth], []).append((layer, path))
    return units + [_region(name, group, depth + 1) for name, group in groups.items()]


def _region(name: str, members: Sequence[tuple[Layer, list[str]]], depth: int) -> Region:
    layers = [layer for layer, _ in members]
    made = {output for layer in layers for output in layer.outputs}
    taken = dict.fromkeys(
        source for layer in layers for source in layer.inputs if source and source not in made
    )
    boundary = [layer for layer in layers if _owner(layer) == name]
    return Region(
        name=name,
        type="LOOP" if "loop" in boundary[0].attributes else "CONDITIONAL",
        units=tuple(sort(_group(members, depth), taken)),
        inputs=tuple(taken),
        outputs=tuple(out for layer in boundary if layer.type in _EXITS for out in layer.outputs),
    )
