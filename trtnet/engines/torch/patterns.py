"""Expressions of layers, and whether a tensor of a graph is computed by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trtnet.graph.numbering import value_numbers
from trtnet.graph.types import Graph, Layer


@dataclass(frozen=True)
class Value:
    """Any tensor; everywhere in one match tensors of one value."""

    name: str


@dataclass(frozen=True)
class Const:
    """A constant of one element: `value`, or with a `name` any."""

    value: float | bool | None = None
    name: str = ""


@dataclass(frozen=True)
class Op:
    """What a layer of `type` with `attributes`, others may have any value, computes of `inputs`."""

    type: str
    inputs: tuple[Op | Value | Const, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


Pattern = Op | Value | Const


class Matcher:
    """Matches expressions in one graph.

    Attributes:
        makers: the layer that computes each tensor.
        numbers: of :func:`trtnet.graph.numbering.value_numbers`.
    """

    def __init__(self, graph: Graph) -> None:
        self.makers: dict[str, Layer] = {
            name: layer for layer in graph.layers for name in layer.outputs
        }
        self.numbers = value_numbers(graph)

    def begin(self, **values: str | None) -> Match:
        """A match in which `values` are known."""
        return Match(self, {name: value or "" for name, value in values.items()})


class Match:
    """What the names of expressions stand for; of use only as long as everything fits.

    Attributes:
        values: a tensor for each name of a :class:`Value`.
        constants: a number for each name of a :class:`Const`.
    """

    def __init__(self, matcher: Matcher, values: dict[str, str]) -> None:
        self._matcher, self.values = matcher, values
        self.constants: dict[str, float] = {}

    def fits(self, pattern: Pattern, tensor: str | None) -> bool:
        """Whether `pattern` computes `tensor`."""
        if tensor is None:
            return False
        if isinstance(pattern, Value):
            numbers = self._matcher.numbers
            known = self.values.setdefault(pattern.name, tensor)
            return known in numbers and numbers[known] == numbers.get(tensor)
        layer = self._matcher.makers.get(tensor)
        if layer is None:
            return False
        if isinstance(pattern, Const):
            return self._is_constant(pattern, layer)
        return (
            layer.type == pattern.type
            and len(layer.inputs) == len(pattern.inputs)
            and all(layer.attributes.get(k) == v for k, v in pattern.attributes.items())
            and all(map(self.fits, pattern.inputs, layer.inputs))
        )

    def _is_constant(self, pattern: Const, layer: Layer) -> bool:
        if layer.type != "CONSTANT" or layer.weights["weights"].size != 1:
            return False
        value = layer.weights["weights"].item()
        if not pattern.name:
            return bool(value == pattern.value)
        return bool(self.constants.setdefault(pattern.name, value) == value)
