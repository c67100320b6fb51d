"""AxisRules: what was declared of the named axes of a network's inputs, checked when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtnet.building.profiles import Input, out_of_range
from trtnet.errors import PlanError, ShapeError
from trtnet.graph.axes import Place, check_one_size, places_of
from trtnet.tensor import Axis, Guards

if TYPE_CHECKING:
    from trtnet.building.sidecar import StatedAxis


@dataclass(frozen=True)
class AxisRule:
    """One named axis.

    Attributes:
        axis: its name and range.
        places: the inputs that have it, and at which index.
        guards: what the model's code concluded from its range, in words.
    """

    axis: Axis
    places: tuple[Place, ...]
    guards: tuple[str, ...] = ()


class AxisRules:
    """The named axes of an engine's inputs.

    Args:
        rules: one per axis.
    """

    def __init__(self, rules: Sequence[AxisRule] = ()) -> None:
        self.rules = tuple(rules)

    @classmethod
    def of(cls, inputs: Sequence[Input], guards: Guards) -> AxisRules:
        """The rules of a network with these `inputs`."""
        places = places_of({declared.name: declared.axes for declared in inputs})
        return cls(
            [
                AxisRule(
                    guards.axes.get(name) or Axis(name),
                    tuple(found),
                    tuple(map(str, guards.of_axis(name))),
                )
                for name, found in places.items()
            ]
        )

    def check_shared(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Checks that inputs that share an axis agree on its size.

        Raises:
            ShapeError: names both inputs, the axis and its sizes.
        """
        for rule in self.rules:
            check_one_size(rule.axis.name, rule.places, shapes)

    def check_ranges(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Checks sizes against the declared ranges.

        Raises:
            ShapeError: names the input, the axis, its range, and what the model's code concluded
                from it.
        """
        for rule in self.rules:
            tensor, index = rule.places[0]
            size = shapes[tensor][index]
            if not rule.axis.allows(size):
                raise out_of_range(tensor, index, size, rule.axis, rule.guards)

    def as_json(self) -> dict[str, Any]:
        """The rules as JSON values, for the sidecar."""
        return {
            rule.axis.name: {
                "min": rule.axis.min,
                "max": rule.axis.max,
                "multiple_of": rule.axis.multiple_of,
                "places": [list(place) for place in rule.places],
                "guards": list(rule.guards),
            }
            for rule in self.rules
        }

    @classmethod
    def stated(cls, axes: Mapping[str, StatedAxis] | None, ranks: Mapping[str, int]) -> AxisRules:
        """The rules in a sidecar; none where it has none, as older ones.

        Args:
            axes: the entry ``axes`` of the sidecar.
            ranks: the number of axes of each input of the engine.

        Raises:
            PlanError: they do not fit the engine's inputs.
        """
        rules = []
        for name, values in (axes or {}).items():
            for tensor, index in values.places:
                if index >= ranks.get(tensor, 0):
                    raise _bad(name, f"axis {index} of {tensor}, which the engine does not have")
            try:
                axis = Axis(name, values.min, values.max, values.multiple_of)
            except ShapeError as error:
                raise _bad(name, error.got) from error
            rules.append(AxisRule(axis, values.places, values.guards))
        return cls(rules)


def _bad(name: str, got: object) -> PlanError:
    return PlanError(
        "the sidecar's axes do not fit the engine's inputs",
        module=name,
        got=got,
        fix="build the engine again",
    )
