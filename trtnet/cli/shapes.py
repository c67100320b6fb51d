"""Shapes as flags have them: ``input:1x3x224x224``."""

from __future__ import annotations

import argparse
import re

from trtnet.building.profiles import Shapes
from trtnet.cli.flags import LARGEST
from trtnet.errors import ShapeError, UsageError
from trtnet.pipeline.recipe import INPUT, InputSpec

_MOST_AXES = 8  # of a tensor of TensorRT
_MOST_DIGITS = len(str(LARGEST))


def parse_input(text: str) -> InputSpec:
    """``--input``: the name of the input may be left out.

    >>> parse_input("x:1x3x224x224")
    InputSpec(shape=(1, 3, 224, 224), name='x')
    """
    name, _, sizes = text.rpartition(":")
    return InputSpec(parse_sizes(sizes, text), name or INPUT)


def parse_shape(text: str, name: str = INPUT) -> tuple[int, ...]:
    """``input:1x3x224x224``, or without ``input:``, as sizes.

    Args:
        text: one shape.
        name: of the network's only input.

    >>> parse_shape("input:1x3x224x224")
    (1, 3, 224, 224)
    """
    given, _, sizes = text.rpartition(":")
    if given not in ("", name):
        raise ShapeError(
            "the network has no input of this name",
            module=given,
            expected=name,
            fix=f"write {name}:{sizes}",
        )
    return parse_sizes(sizes, text)


def parse_profiles(arguments: argparse.Namespace, name: str = INPUT) -> tuple[Shapes, ...]:
    """``--minShapes``, ``--optShapes`` and ``--maxShapes`` as optimization profiles.

    Raises:
        UsageError: they do not belong together, or cannot be read.
        ShapeError: a shape for another input than `name`.
    """
    given = [arguments.minShapes, arguments.optShapes, arguments.maxShapes]
    if any(given) and arguments.batch:
        raise UsageError("--batch and --minShapes ... exclude each other")
    if len({len(shapes) for shapes in given}) > 1:
        raise UsageError(
            "--minShapes, --optShapes and --maxShapes belong together",
            expected="each of them once per profile",
            got=", ".join(f"{len(shapes)}" for shapes in given),
        )
    return tuple(
        Shapes(*(parse_shape(text, name) for text in texts)) for texts in zip(*given, strict=True)
    )


def parse_sizes(sizes: str, text: str) -> tuple[int, ...]:
    """The numbers in `sizes`, which is ``1x3x224x224``; `text` is what contains it.

    Raises:
        UsageError: they cannot be read, or are too many or too large for TensorRT.
    """
    if not re.fullmatch(r"\d+(x\d+)*", sizes):
        raise UsageError(f"cannot read the shape {text!r}", expected=f"{INPUT}:1x3x224x224")
    digits = [size.lstrip("0") or "0" for size in sizes.split("x")]
    fit = all(len(size) <= _MOST_DIGITS and int(size) <= LARGEST for size in digits)
    if len(digits) > _MOST_AXES or not fit:
        raise UsageError(
            f"no tensor has the shape {text!r}",
            expected=f"at most {_MOST_AXES} axes, of at most {LARGEST:,} elements each",
        )
    return tuple(map(int, digits))
