"""Shapes of dynamic inputs: what the user gives, checked against the network."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.errors import ShapeError
from trtnet.names import did_you_mean
from trtnet.tensor import Axis, Guards


@dataclass(frozen=True)
class Shapes:
    """The smallest, the most frequent and the largest shape of one input.

    >>> Shapes.fixed((1, 3, 224, 224)).max
    (1, 3, 224, 224)
    """

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    @classmethod
    def fixed(cls, shape: Sequence[int]) -> Shapes:
        """One shape and no other."""
        return cls(tuple(shape), tuple(shape), tuple(shape))


GivenProfile = Mapping[str, "Shapes | Sequence[int]"]
"""What a user gives for one optimization profile: shapes, or one fixed shape, by input."""

Profile = dict[str, Shapes]
"""The checked shapes of every dynamic input, by its name."""


@dataclass(frozen=True)
class Input:
    """An input as the network declares it.

    Attributes:
        name: of the tensor.
        shape: -1 for a dynamic axis.
        axes: names of the axes; ``None`` for one without a name.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether the size of an axis is not known before an execution."""
        return -1 in self.shape

    def __str__(self) -> str:
        sizes = (axis or str(size) for size, axis in zip(self.shape, self.axes, strict=True))
        return f"({', '.join(sizes)})"


def inputs_of(definition: Any) -> list[Input]:
    """The inputs of an ``INetworkDefinition``, in order."""
    tensors = [definition.get_input(index) for index in range(definition.num_inputs)]
    return [
        Input(
            tensor.name,
            tuple(tensor.shape),
            tuple(tensor.get_dimension_name(axis) or None for axis in range(len(tensor.shape))),
        )
        for tensor in tensors
    ]


def as_json(profiles: Sequence[Profile]) -> list[dict[str, dict[str, list[int]]]]:
    """`profiles` as JSON values, for the sidecar and the recipe."""
    return [
        {
            name: {"min": [*shapes.min], "opt": [*shapes.opt], "max": [*shapes.max]}
            for name, shapes in profile.items()
        }
        for profile in profiles
    ]


def out_of_range(
    tensor: str, index: int, size: int, axis: Axis, guards: Sequence[object], which: str = ""
) -> ShapeError:
    """The error for a size of an input that is not in the declared range of its axis.

    Args:
        guards: what the model's code concluded from that range.
        which: the shape of a profile: min, opt or max.
    """
    text = "; ".join(map(str, guards))
    return ShapeError(
        f"{which and f'{which}: '}axis {axis.name} has a size outside its declared range",
        module=tensor,
        expected=f"{axis}" + (f"; the network holds for these sizes only: {text}" if text else ""),
        got=f"{size} on axis {index}",
        fix=f"give a size in the range, or declare another one: "
        f"trtnet.Axis({axis.name!r}, min, max, multiple_of) in network.input(...)",
    )


def check_profiles(
    inputs: Sequence[Input],
    shapes: GivenProfile | Sequence[GivenProfile] | None,
    guards: Guards | None = None,
) -> list[Profile]:
    """The optimization profiles that `shapes` stands for.

    TensorRT accepts impossible profiles silently, so they are refused here.

    Args:
        inputs: of the network.
        shapes: one mapping from input name to :class:`Shapes` (or to one fixed shape) per
            profile, or just one mapping. Inputs without dynamic axes may be left out, and so may
            inputs whose dynamic axes all have a declared range with a largest size: their shapes
            are then the smallest, the largest, and the largest again as the most frequent.
        guards: the declared ranges of the axes, which the profiles must keep.

    Returns:
        One profile per mapping, each with every dynamic input; none for a network without
        dynamic inputs.

    Raises:
        ShapeError: names the input, what the network declares, and what came.
    """
    given = [shapes or {}] if shapes is None or isinstance(shapes, Mapping) else list(shapes)
    ranges = Guards() if guards is None else guards
    profiles = [_check_profile(inputs, profile, ranges) for profile in given or [{}]]
    return [profile for profile in profiles if profile]


def _check_profile(inputs: Sequence[Input], given: GivenProfile, guards: Guards) -> Profile:
    names = [declared.name for declared in inputs]
    for name in given:
        if name not in names:
            raise ShapeError(
                "the network has no input of this name",
                module=name,
                expected=", ".join(names),
                fix=did_you_mean(name, names),
            )
    profile = {}
    for declared in inputs:
        if declared.name in given:
            shapes = _check_shapes(declared, given[declared.name])
            if declared.is_dynamic:
                profile[declared.name] = shapes
        elif declared.is_dynamic and (default := _from_ranges(declared, guards)) is not None:
            profile[declared.name] = default
        elif declared.is_dynamic:
            raise ShapeError(
                "an input with dynamic axes needs shapes",
                module=declared.name,
                expected=f"sizes for {declared}",
                fix=f"shapes={{{declared.name!r}: trtnet.Shapes(min=..., opt=..., max=...)}}",
            )
    _check_shared_axes(inputs, profile)
    for declared in inputs:
        if declared.name in profile:
            _check_ranges(declared, profile[declared.name], guards)
    return profile


def _from_ranges(declared: Input, guards: Guards) -> Shapes | None:
    """The whole declared range of an input; ``None`` where that is not limited."""
    low, high = [], []
    for size, name in zip(declared.shape, declared.axes, strict=True):
        axis = guards.axes.get(name or "")
        if size != -1:
            sizes = range(size, size + 1)
        elif axis is None or axis.max is None:
            return None
        else:
            sizes = axis.sizes
        low.append(sizes[0])
        high.append(sizes[-1])
    return Shapes(tuple(low), tuple(high), tuple(high))


def _check_ranges(declared: Input, shapes: Shapes, guards: Guards) -> None:
    for index, name in enumerate(declared.axes):
        axis = guards.axes.get(name or "")
        if axis is None:
            continue
        for which in ("min", "opt", "max"):
            size = getattr(shapes, which)[index]
            if not axis.allows(size):
                found = guards.of_axis(axis.name)
                raise out_of_range(declared.name, index, size, axis, found, which)


def _check_shapes(declared: Input, given: Shapes | Sequence[int]) -> Shapes:
    if not isinstance(given, Shapes):
        given = Shapes.fixed(given)
    low, opt, high = (_check_sizes(declared, getattr(given, k), k) for k in ("min", "opt", "max"))
    for axis, sizes in enumerate(zip(low, opt, high, strict=True)):
        if not sizes[0] <= sizes[1] <= sizes[2]:
            raise ShapeError(
                f"impossible range on axis {axis}",
                module=declared.name,
                expected="min <= opt <= max",
                got=f"min={low}, opt={opt}, max={high}",
            )
    return Shapes(low, opt, high)


def _check_sizes(declared: Input, given: Sequence[Any], which: str) -> tuple[int, ...]:
    def error(problem: str) -> ShapeError:
        return ShapeError(
            f"{which}: {problem}", module=declared.name, expected=str(declared), got=given
        )

    try:
        sizes = tuple(operator.index(size) for size in given)
    except TypeError:
        raise error("sizes are integers") from None
    if len(sizes) != len(declared.shape):
        raise error(f"wrong rank, {len(sizes)} instead of {len(declared.shape)}")
    for axis, (size, fixed) in enumerate(zip(sizes, declared.shape, strict=True)):
        if size < 1:
            raise error(f"axis {axis} has an impossible size")
        if fixed not in (-1, size):
            raise error(f"axis {axis} is fixed to {fixed} in the network")
    return sizes


def _check_shared_axes(inputs: Sequence[Input], profile: Profile) -> None:
    """Axes of one name have one size in every input, so they need one range."""
    ranges: dict[str, tuple[tuple[int, ...], str]] = {}
    for declared in inputs:
        if declared.name not in profile:
            continue
        shapes = profile[declared.name]
        for axis, name in enumerate(declared.axes):
            if name is None:
                continue
            found = (shapes.min[axis], shapes.opt[axis], shapes.max[axis])
            expected, first = ranges.setdefault(name, (found, declared.name))
            if found != expected:
                raise ShapeError(
                    f"axes named {name!r} have one size, but different ranges",
                    module=declared.name,
                    expected=f"min, opt, max = {expected}, as in {first}",
                    got=found,
                )
