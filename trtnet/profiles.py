"""Optimization profiles: the range of shapes an engine is built for, checked before TensorRT."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtnet.errors import ShapeError
from trtnet.tensor import Dim

if TYPE_CHECKING:
    from trtnet.network import Network


@dataclass(frozen=True)
class Shapes:
    """The smallest, most usual and largest shape of one input.

    >>> Shapes.fixed((1, 3, 224, 224)).opt
    (1, 3, 224, 224)
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    @classmethod
    def fixed(cls, shape: Sequence[int]) -> Shapes:
        """One shape only."""
        sizes = tuple(shape)
        return cls(sizes, sizes, sizes)


Profile = Mapping[str, "Shapes | Sequence[int]"]


def profiles_for(
    network: Network, shapes: Profile | Sequence[Profile] | None
) -> list[dict[str, Shapes]]:
    """One dict of every input's shapes per optimization profile.

    Args:
        shapes: a :class:`Shapes` (or one fixed shape) by input name, or a list of such dicts, one
            per profile. Inputs of fixed shape may be left out.

    Raises:
        ShapeError: an unknown input; a dynamic input without shapes; min > opt or opt > max; a
            rank or fixed size that differs from the network's; axes of one name with different
            ranges. The message names the input.
    """
    given = [shapes or {}] if shapes is None or isinstance(shapes, Mapping) else list(shapes)
    return [_profile(network, profile) for profile in given]


def _profile(network: Network, given: Profile) -> dict[str, Shapes]:
    for name in given:
        if name not in network.inputs:
            near = difflib.get_close_matches(name, network.inputs, n=1)
            raise ShapeError("shapes for an input that the network does not have", module=name,
                             expected=", ".join(network.inputs),
                             fix=f"did you mean {near[0]}?" if near else None)  # fmt: skip
    profile, ranges = {}, {}
    for name, tensor in network.inputs.items():
        if name not in given:
            if not tensor.is_static:
                raise ShapeError("a dynamic input needs min, opt and max shapes", module=name,
                                 got=tensor.shape, fix="pass shapes={name: trtnet.Shapes(...)} "
                                 "or --minShapes, --optShapes and --maxShapes")  # fmt: skip
            profile[name] = Shapes.fixed(tensor.shape)
            continue
        value = given[name]
        shapes = value if isinstance(value, Shapes) else Shapes.fixed(value)
        _check(name, shapes, tensor.shape)
        profile[name] = shapes
        for axis, size in enumerate(tensor.shape):
            if isinstance(size, Dim):
                found = (shapes.min[axis], shapes.opt[axis], shapes.max[axis])
                first = ranges.setdefault(size, (name, found))
                if first[1] != found:
                    raise ShapeError(f"the axis {size} has another range than in {first[0]}",
                                     module=name, expected=first[1], got=found)  # fmt: skip
    return profile


def _check(name: str, shapes: Shapes, declared: tuple[Any, ...]) -> None:
    for label in ("min", "opt", "max"):
        sizes = getattr(shapes, label)
        if len(sizes) != len(declared):
            raise ShapeError(f"the {label} shape has the wrong rank", module=name,
                             expected=f"rank {len(declared)}, as {declared}", got=sizes)  # fmt: skip
        for axis, (size, fixed) in enumerate(zip(sizes, declared, strict=True)):
            if isinstance(fixed, int) and size != fixed:
                raise ShapeError(f"axis {axis} of the {label} shape is fixed in the network",
                                 module=name, expected=fixed, got=sizes)  # fmt: skip
            if not isinstance(fixed, int) and size < 1:
                raise ShapeError(f"axis {axis} of the {label} shape is not positive",
                                 module=name, got=sizes)  # fmt: skip
    for axis, (low, usual, high) in enumerate(zip(shapes.min, shapes.opt, shapes.max, strict=True)):
        if not low <= usual <= high:
            raise ShapeError(f"impossible shapes on axis {axis}", module=name,
                             expected="min <= opt <= max", got=f"{low}, {usual}, {high}",
                             fix="order the three shapes")  # fmt: skip
