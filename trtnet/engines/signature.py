"""Signature: checks the inputs of a call, and finds the profile that they fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.building.axes import AxisRules
from trtnet.building.profiles import Shapes
from trtnet.engines.arrays import View
from trtnet.engines.protocol import Binding
from trtnet.errors import ShapeError
from trtnet.names import did_you_mean

_DYNAMIC = -1


@dataclass(frozen=True)
class Fit:
    """How a call is executed.

    Attributes:
        profile: index of the optimization profile.
        chunk_size: the engine's fixed batch size, where the call's batch has another one and is
            executed in chunks; otherwise ``None``.
    """

    profile: int
    chunk_size: int | None = None


class Signature:
    """The inputs of an engine and their ranges.

    Args:
        bindings: of the engine; outputs are ignored.
        profiles: the ranges of its inputs, per profile.
        axes: the named axes of its inputs.
    """

    def __init__(
        self,
        bindings: Sequence[Binding],
        profiles: Sequence[Mapping[str, Shapes]],
        axes: AxisRules,
    ) -> None:
        self._inputs = {binding.name: binding for binding in bindings if binding.is_input}
        self._names = list(self._inputs)
        self._profiles, self._axes = profiles, axes

    def name(self, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by input name, in the engine's order.

        Raises:
            ShapeError: too many, missing, unknown or doubled inputs.
        """
        names = self._names
        if len(positional) == len(names) and not named:
            return dict(zip(names, positional, strict=True))
        if len(positional) > len(names):
            raise ShapeError("too many inputs", expected=", ".join(names), got=len(positional))
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in self._inputs:
                raise ShapeError(
                    "the engine has no input of this name",
                    module=name,
                    expected=", ".join(names),
                    fix=did_you_mean(name, names),
                )
            if name in given:
                raise ShapeError("an input was given twice", module=name)
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise ShapeError(
                "inputs are missing", expected=", ".join(names), got=", ".join(given) or "none"
            )
        return {name: given[name] for name in names}

    def fit(self, views: Mapping[str, View]) -> Fit:
        """The profile for these arrays; of several that fit, the one whose `opt` shapes are
        nearest.

        Raises:
            ShapeError: names the input, what the engine takes, and what came. Also for inputs that
                share an axis but not its size, and for a size outside its declared range.
        """
        for name, array in views.items():
            _check(self._inputs[name], array)
        _check_places(views, self._inputs)
        whole = {name: array.shape for name, array in views.items()}
        self._axes.check_shared(whole)
        shapes = {n: shape for n, shape in whole.items() if not self._inputs[n].on_host}
        found = self._find(shapes)
        if found.chunk_size is not None:
            whole |= {name: (found.chunk_size, *shape[1:]) for name, shape in shapes.items()}
        self._axes.check_ranges(whole)
        return found

    def _find(self, shapes: Mapping[str, tuple[int, ...]]) -> Fit:
        fitting = [i for i, profile in enumerate(self._profiles) if _within(profile, shapes)]
        if fitting:
            return Fit(min(fitting, key=lambda i: _distance(self._profiles[i], shapes)))
        for i, profile in enumerate(self._profiles):
            batch = _fixed_batch(profile, shapes)
            if batch is not None:
                return Fit(i, batch)
        raise self._outside(shapes)

    def _outside(self, shapes: Mapping[str, tuple[int, ...]]) -> ShapeError:
        name = next(
            (n for n, s in shapes.items() if not any(_fits(p[n], s) for p in self._profiles)),
            next(iter(shapes), None),
        )
        if name is None:
            return ShapeError("the engine has no profile for these inputs")
        ranges = [_range(profile[name]) for profile in self._profiles]
        return ShapeError(
            "the shape is outside every profile of the engine",
            module=name,
            expected=", or ".join(dict.fromkeys(ranges)),
            got=shapes[name],
            fix="build the engine with --minShapes, --optShapes and --maxShapes around this shape, "
            "or in Python with trtnet.Shapes(min, opt, max)",
        )


def _check(binding: Binding, array: View) -> None:
    if array.dtype != binding.dtype:
        convert = f".to(torch.{binding.dtype})" if "torch" in array.kind else None
        raise ShapeError(
            "an input has the wrong type",
            module=binding.name,
            expected=binding.dtype,
            got=array.dtype,
            fix=f"convert it: {binding.name}{convert or f'.astype({binding.dtype!r})'}",
        )
    if len(array.shape) != len(binding.shape):
        sizes = ["any" if size == _DYNAMIC else str(size) for size in binding.shape]
        raise ShapeError(
            "an input has the wrong rank",
            module=binding.name,
            expected=f"{len(binding.shape)} axes: ({', '.join(sizes)})",
            got=f"{len(array.shape)} axes: {array.shape}",
        )


def _check_places(views: Mapping[str, View], inputs: Mapping[str, Binding]) -> None:
    """Shape values are read on the host; everything else comes from one place."""
    for name, array in views.items():
        if inputs[name].on_host and array.on_gpu:
            raise ShapeError(
                "a shape value must be in host memory",
                module=name,
                got="an array on a GPU",
                fix="give it as a numpy array",
            )
    kinds = {name: view.kind for name, view in views.items() if not inputs[name].on_host}
    if len({view.on_gpu for name, view in views.items() if name in kinds}) > 1:
        raise ShapeError(
            "inputs are partly on a GPU and partly on the CPU",
            expected="all in one place",
            got=", ".join(f"{name}: {kind}" for name, kind in kinds.items()),
        )


def _within(profile: Mapping[str, Shapes], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(_fits(profile[name], shape) for name, shape in shapes.items())


def _fits(range_: Shapes, shape: tuple[int, ...]) -> bool:
    return all(low <= n <= high for low, n, high in zip(range_.min, shape, range_.max, strict=True))


def _distance(profile: Mapping[str, Shapes], shapes: Mapping[str, tuple[int, ...]]) -> float:
    return sum(
        abs(math.log(max(n, 1) / max(opt, 1)))
        for name, shape in shapes.items()
        for n, opt in zip(shape, profile[name].opt, strict=True)
    )


def _fixed_batch(
    profile: Mapping[str, Shapes], shapes: Mapping[str, tuple[int, ...]]
) -> int | None:
    """The batch size of `profile`, if all inputs have the same fixed one there and fit apart from
    it; otherwise ``None``."""
    fixed = {(profile[name].min[:1], profile[name].max[:1]) for name in shapes}
    given = {shape[:1] for shape in shapes.values()}
    if len(fixed) != 1 or len(given) != 1:
        return None
    ((low, high),), ((*batch,),) = fixed, given
    if low != high or not low or not low[0] or not batch or not batch[0]:
        return None
    others = {name: (*low, *shape[1:]) for name, shape in shapes.items()}
    return low[0] if _within(profile, others) else None


def _range(shapes: Shapes) -> str:
    if shapes.min == shapes.max:
        return str(shapes.min)
    return f"{shapes.min} to {shapes.max}"
