"""AxisRules: what was declared of the named axes of a network's inputs, checked when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.building.profiles import Input, out_of_range
from trtnet.errors import PlanError, ShapeError
from trtnet.graph.axes import Place, check_one_size, places_of
from trtnet.tensor import Axis, Guards


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
    def from_json(cls, stated: Any, ranks: Mapping[str, int]) -> AxisRules:
        """The rules in a sidecar; none where it has none, as older ones.

        Args:
            ranks: the number of axes of each input of the engine.

        Raises:
            PlanError: they do not fit the engine's inputs.
        """
        if stated is None:
            return cls()
        try:
            rules = [_rule(name, values) for name, values in stated.items()]
            fit = all(0 <= i < ranks[tensor] for rule in rules for tensor, i in rule.places)
            fit = fit and all(rule.places for rule in rules)
        except (AttributeError, KeyError, TypeError, ValueError, ShapeError) as error:
            raise _bad(stated) from error
        if not fit:
            raise _bad(stated)
        return cls(rules)


def _rule(name: str, values: Any) -> AxisRule:
    axis = Axis(name, values["min"], values["max"], values["multiple_of"])
    places = tuple((str(tensor), int(index)) for tensor, index in values["places"])
    return AxisRule(axis, places, tuple(map(str, values["guards"])))


def _bad(stated: object) -> PlanError:
    return PlanError(
        "the sidecar's axes do not fit the engine's inputs",
        got=f"{stated!a:.200}",
        fix="build the engine again",
    )
