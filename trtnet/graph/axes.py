"""Axes of inputs that share a name have one size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trtnet.errors import ShapeError

Place = tuple[str, int]
"""An input, and the index of one of its axes."""


def check_one_size(
    name: str, places: Iterable[Place], shapes: Mapping[str, tuple[int, ...]]
) -> int:
    """The size of the axis `name`, which the inputs have at `places`.

    Raises:
        ShapeError: they have different sizes there.
    """
    (first, at), *others = places
    size = shapes[first][at]
    for other, axis in others:
        if shapes[other][axis] != size:
            raise ShapeError(
                f"the inputs {first} and {other} share the axis {name}, but not its size",
                module=other,
                expected=f"axis {axis} of size {size}, as axis {at} of {first} {shapes[first]}",
                got=f"size {shapes[other][axis]}: {shapes[other]}",
                fix="give both one size, or give the axes different names in network.input(...)",
            )
    return size


def places_of(names: Mapping[str, Iterable[str | None]]) -> dict[str, list[Place]]:
    """Where each named axis is, given the names of the axes of each input."""
    found: dict[str, list[Place]] = {}
    for tensor, axes in names.items():
        for index, name in enumerate(axes):
            if name is not None:
                found.setdefault(name, []).append((tensor, index))
    return found
