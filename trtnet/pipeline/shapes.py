"""The shapes of a model's input: what a recipe declares, and what is verified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trtnet.building.profiles import Input, Shapes, check_profiles
from trtnet.errors import ShapeError, UsageError
from trtnet.pipeline.recipe import INPUT, Recipe

_IMAGE_AXES = ("N", "C", "H", "W")
_ODD_AT = (0.1, 0.25)  # of the way from min to opt: odd height and width, not in proportion


@dataclass(frozen=True)
class InputShapes:
    """The one input of a model.

    Attributes:
        declared: what :meth:`trtnet.Network.input` takes: sizes, names of dynamic axes.
        profiles: one per triple of shapes.
        name: of the input.
    """

    declared: tuple[int | str, ...]
    profiles: tuple[Shapes, ...]
    name: str = INPUT

    @classmethod
    def fixed(cls, shape: Sequence[int], name: str = INPUT) -> InputShapes:
        """One static shape."""
        return cls(tuple(shape), (Shapes.fixed(shape),), name)

    @property
    def typical(self) -> list[tuple[int, ...]]:
        """The `opt` shape of each profile."""
        return [profile.opt for profile in self.profiles]

    @property
    def by_name(self) -> dict[str, tuple[int, ...]]:
        """The `opt` shape of the first profile, by the input's name."""
        return {self.name: self.profiles[0].opt}

    @property
    def varied(self) -> list[tuple[int, ...]]:
        """What a network is verified on, smallest first: the `opt` shape of each profile; of the
        first one, where the size of its images is dynamic, also `min`, and odd sizes between the
        two. `max` takes the most time and memory, and shows nothing more."""
        first, shapes = self.profiles[0], self.typical
        if first.min[2:] != first.max[2:]:
            shapes.append(first.min)
            if len(first.min) == len(_IMAGE_AXES):
                sizes = zip(first.min[2:], first.opt[2:], _ODD_AT, strict=True)
                shapes.append((*first.min[:2], *(_odd(*size) for size in sizes)))
        return sorted(dict.fromkeys(shapes), key=math.prod)

    def check(self, shape: Sequence[int]) -> None:
        """Raises :class:`ShapeError` if no profile has room for `shape`."""
        check_rank(shape, len(self.declared), self.name)
        for profile in self.profiles:
            if all(a <= n <= b for a, n, b in zip(profile.min, shape, profile.max, strict=True)):
                return
        ranges = (f"{as_text(profile.min)} to {as_text(profile.max)}" for profile in self.profiles)
        raise ShapeError(
            "the shape is outside every profile",
            module=self.name,
            expected=", or ".join(ranges),
            got=as_text(shape),
        )


def default_shape(recipe: Recipe, image: Sequence[int] | None) -> tuple[int, ...]:
    """The static shape of the input, with its batch axis: that of the recipe, or else one image.

    Args:
        image: one input of the model without its batch axis; ``None`` where it states none.

    Raises:
        UsageError: neither the recipe nor the model tells a shape.
    """
    if recipe.input is not None:
        shape = recipe.input.shape
    elif image is not None:
        shape = (1, *image)
    else:
        raise UsageError(
            "the model does not state the shape of its input",
            module=recipe.entry.name,
            expected="a shape with its batch axis",
            fix=f"--input {INPUT}:1x3x224x224, or Recipe(input=InputSpec((1, 3, 224, 224)))",
        )
    if recipe.batch is not None:
        shape = (recipe.batch, *shape[1:])
    if recipe.image_size is not None and len(shape) == len(_IMAGE_AXES):
        shape = (*shape[:2], recipe.image_size, recipe.image_size)
    return shape


def input_shapes(recipe: Recipe, image: Sequence[int] | None) -> InputShapes:
    """The input of a model in `recipe`.

    Args:
        image: one input of the model without its batch axis, such as (channels, height, width);
            ``None`` where it states none.

    Raises:
        UsageError: shapes that contradict each other, or no shape at all.
        ShapeError: min, opt and max that cannot be.
    """
    name = recipe.input.name if recipe.input is not None else INPUT
    if not recipe.profiles:
        return InputShapes.fixed(default_shape(recipe, image), name)
    if recipe.batch is not None:
        raise UsageError("a batch size and profiles exclude each other", got=recipe.batch)
    if recipe.input is not None:
        image = recipe.input.shape[1:]
    for profile in recipe.profiles:
        rank = len(profile.opt) if image is None else len(image) + 1
        for shape in (profile.min, profile.opt, profile.max):
            check_rank(shape, rank, name)
    declared = _declare(recipe.profiles, name, image[0] if image else None)
    check_profiles([_input(declared, name)], [{name: profile} for profile in recipe.profiles])
    return InputShapes(declared, recipe.profiles, name)


def verified_shapes(recipe: Recipe, shapes: InputShapes) -> list[tuple[int, ...]]:
    """The shapes that a network of `recipe` is verified on, smallest first: those it names, or by
    default :attr:`InputShapes.varied`.

    Raises:
        UsageError: it has calibration data too.
        ShapeError: a shape that cannot be, or is in no profile.
    """
    if not recipe.verify_shapes:
        return shapes.varied
    if recipe.calibration.data is not None:
        raise UsageError(
            "shapes to verify (--verify-shapes, verify_shapes) and calibration data (--calib-data, "
            "calibration) exclude each other",
            expected="inputs of any size, or the data, which has one",
        )
    for shape in recipe.verify_shapes:
        shapes.check(shape)
    return sorted(recipe.verify_shapes, key=math.prod)


def check_rank(shape: Sequence[int], rank: int, name: str) -> None:
    """Raises :class:`ShapeError` unless `shape`, of the input `name`, has `rank` axes."""
    if len(shape) != rank:
        raise ShapeError(
            "wrong rank",
            module=name,
            expected=f"{rank} sizes, {'x'.join(_axes(rank))}",
            got=as_text(shape),
        )


def as_text(shape: Sequence[int]) -> str:
    """A shape as flags have it.

    >>> as_text((1, 3, 224, 224))
    '1x3x224x224'
    """
    return "x".join(map(str, shape))


def _axes(rank: int) -> tuple[str, ...]:
    """Names of the axes, for dynamic ones."""
    if rank == len(_IMAGE_AXES):
        return _IMAGE_AXES
    return ("N", *(f"D{axis}" for axis in range(1, rank)))


def _declare(profiles: Sequence[Shapes], name: str, channels: int | None) -> tuple[int | str, ...]:
    every = [shape for profile in profiles for shape in (profile.min, profile.opt, profile.max)]
    sizes = [set(axis) for axis in zip(*every, strict=True)]
    if channels is not None and sizes[1] != {channels}:
        raise ShapeError(
            "the model's channels are fixed",
            module=name,
            expected=channels,
            got=", ".join(str(size) for size in sorted(sizes[1])),
        )
    return tuple(
        axis if len(found) > 1 else found.pop()
        for axis, found in zip(_axes(len(sizes)), sizes, strict=True)
    )


def _odd(low: int, high: int, share: float) -> int:
    """An odd number from `low` to `high`, about `share` of the way; `low` if there is none."""
    number = (low + int(share * (high - low))) | 1
    return number if low <= number <= high else low


def _input(declared: Sequence[int | str], name: str) -> Input:
    """The input as the network will have it."""
    return Input(
        name,
        tuple(-1 if isinstance(size, str) else size for size in declared),
        tuple(size if isinstance(size, str) else None for size in declared),
    )
