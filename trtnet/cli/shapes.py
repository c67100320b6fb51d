"""From ``--batch`` or ``--minShapes``, ``--optShapes``, ``--maxShapes`` to a network's input."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trtnet.building.profiles import Input, Shapes, check_profiles
from trtnet.errors import ShapeError, UsageError

INPUT = "input"
_AXES = ("N", "C", "H", "W")
_ODD_AT = (0.1, 0.25)  # of the way from min to opt: odd height and width, not in proportion


@dataclass(frozen=True)
class InputShapes:
    """The one input of a model.

    Attributes:
        declared: what :meth:`trtnet.Network.input` takes: sizes, names of dynamic axes.
        profiles: one per triple of shapes.
    """

    declared: tuple[int | str, ...]
    profiles: tuple[Shapes, ...]

    @property
    def typical(self) -> list[tuple[int, ...]]:
        """The `opt` shape of each profile."""
        return [profile.opt for profile in self.profiles]

    @property
    def varied(self) -> list[tuple[int, ...]]:
        """What a network is verified on, smallest first: the `opt` shape of each profile; of the
        first one, where the size of its images may vary, also `min`, and odd sizes between the
        two. `max` takes the most time and memory, and tells no more."""
        first, shapes = self.profiles[0], self.typical
        if first.min[2:] != first.max[2:]:
            sizes = zip(first.min[2:], first.opt[2:], _ODD_AT, strict=True)
            shapes += [first.min, (*first.min[:2], *(_odd(*size) for size in sizes))]
        return sorted(dict.fromkeys(shapes), key=math.prod)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises :class:`ShapeError` if no profile has room for `shape`."""
        for profile in self.profiles:
            if all(a <= n <= b for a, n, b in zip(profile.min, shape, profile.max, strict=True)):
                return
        ranges = (f"{_text(profile.min)} to {_text(profile.max)}" for profile in self.profiles)
        raise ShapeError(
            "the shape is outside every profile",
            module=INPUT,
            expected=", or ".join(ranges),
            got=_text(shape),
        )


def input_shapes(arguments: argparse.Namespace, image: Sequence[int]) -> InputShapes:
    """What the flags mean for a model whose images are (channels, height, width) by default.

    Raises:
        UsageError: flags that contradict each other or cannot be read.
        ShapeError: min, opt and max that cannot be.
    """
    given = [arguments.minShapes, arguments.optShapes, arguments.maxShapes]
    if not any(given):
        size = (arguments.image_size,) * 2 if arguments.image_size else tuple(image[1:])
        shape = (arguments.batch or 1, image[0], *size)
        return InputShapes(shape, (Shapes.fixed(shape),))
    if arguments.batch:
        raise UsageError("--batch and --minShapes ... exclude each other")
    if len({len(shapes) for shapes in given}) > 1:
        raise UsageError(
            "--minShapes, --optShapes and --maxShapes belong together",
            expected="each of them once per profile",
            got=", ".join(f"{len(shapes)}" for shapes in given),
        )
    profiles = tuple(
        Shapes(*(parse_shape(text, len(image) + 1) for text in texts))
        for texts in zip(*given, strict=True)
    )
    declared = _declare(profiles, image[0])
    check_profiles([_input(declared)], [{INPUT: profile} for profile in profiles])
    return InputShapes(declared, profiles)


def verified_shapes(arguments: argparse.Namespace, shapes: InputShapes) -> list[tuple[int, ...]]:
    """What ``--verify-shapes`` means for a network with these `shapes`: those, smallest first, or
    by default :attr:`InputShapes.varied`.

    Raises:
        UsageError: ``--calib-data`` is there too.
        ShapeError: a shape that cannot be, or is in no profile.
    """
    if not arguments.verify_shapes:
        return shapes.varied
    if arguments.calib_data is not None:
        raise UsageError(
            "--verify-shapes and --calib-data exclude each other",
            expected="inputs of any size, or the data, which has one",
        )
    rank = len(shapes.declared)
    found = [parse_shape(text, rank) for text in arguments.verify_shapes]
    for shape in found:
        shapes.check(shape)
    return sorted(found, key=math.prod)


def parse_shape(text: str, rank: int) -> tuple[int, ...]:
    """``input:1x3x224x224``, or without ``input:``, as sizes.

    >>> parse_shape("input:1x3x224x224", 4)
    (1, 3, 224, 224)
    """
    name, _, sizes = text.rpartition(":")
    if name not in ("", INPUT):
        raise ShapeError(
            "the network has no input of this name",
            module=name,
            expected=INPUT,
            fix=f"write {INPUT}:{sizes}",
        )
    if not re.fullmatch(r"\d+(x\d+)*", sizes):
        raise UsageError(f"cannot read the shape {text!r}", expected=f"{INPUT}:1x3x224x224")
    shape = tuple(int(size) for size in sizes.split("x"))
    if len(shape) != rank:
        raise ShapeError(
            "wrong rank", module=INPUT, expected=f"{rank} sizes, {'x'.join(_AXES)}", got=text
        )
    return shape


def _declare(profiles: Sequence[Shapes], channels: int) -> tuple[int | str, ...]:
    every = [shape for profile in profiles for shape in (profile.min, profile.opt, profile.max)]
    sizes = [set(axis) for axis in zip(*every, strict=True)]
    if sizes[1] != {channels}:
        raise ShapeError(
            "the model's channels are fixed",
            module=INPUT,
            expected=channels,
            got=", ".join(str(size) for size in sorted(sizes[1])),
        )
    return tuple(
        name if len(found) > 1 else found.pop() for name, found in zip(_AXES, sizes, strict=True)
    )


def _odd(low: int, high: int, share: float) -> int:
    """An odd number from `low` to `high`, about `share` of the way; `low` if there is none."""
    number = (low + int(share * (high - low))) | 1
    return number if low <= number <= high else low


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _input(declared: Sequence[int | str]) -> Input:
    """The input as the network will have it."""
    return Input(
        INPUT,
        tuple(-1 if isinstance(size, str) else size for size in declared),
        tuple(size if isinstance(size, str) else None for size in declared),
    )
