"""Inputs and outputs of a network: their names, and the axes of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from trtnet.errors import NetworkError, ShapeError
from trtnet.tensor import Axis, Dim, Tensor
from trtnet.tensor.emitter import Emitter

AxisSize = int | str | Axis | None
"""An axis of an input as it is declared."""


def check_name(name: object) -> None:
    """Refuses what is no name of an input or output.

    Raises:
        NetworkError: `name` is no string, empty, or one that TensorRT would cut off or cannot
            take: with a NUL, or half a surrogate pair.
    """
    if not isinstance(name, str) or not name:
        raise NetworkError("a name must be a string that is not empty", got=repr(name))
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise NetworkError("a name must be text without NUL and surrogates", got=repr(name))


def check_output(name: str, tensor: object) -> None:
    """Refuses what cannot be the output `name`.

    Raises:
        NetworkError: `name` is no name, or `tensor` no :class:`trtnet.Tensor`.
    """
    check_name(name)
    if not isinstance(tensor, Tensor):
        raise NetworkError(
            "an output must be a trtnet.Tensor",
            module=name,
            got=type(tensor).__name__,
            fix="pass what the model returned; does its forward() return something?",
        )


def declared_sizes(name: str, shape: Sequence[AxisSize]) -> list[int]:
    """The sizes of the input `name` as TensorRT takes them: -1 for a dynamic axis.

    Raises:
        ShapeError: a size that is neither positive nor dynamic.
    """
    given = list(shape) if isinstance(shape, Iterable) and not isinstance(shape, str) else None
    if given is None or not all(map(_is_size, given)):
        wanted = "a sequence of positive ints, names, trtnet.Axis, or None"
        raise ShapeError("impossible input size", module=name, got=repr(shape), expected=wanted)
    return [-1 if size is None or isinstance(size, (str, Axis)) else int(size) for size in given]


def _is_size(value: object) -> bool:
    if value is None or isinstance(value, (str, Axis)):
        return True
    is_int = isinstance(value, Integral) and not isinstance(value, bool)
    return is_int and (int(value) > 0 or int(value) == -1)  # type: ignore[call-overload]


class NamedAxes:
    """The Dims of one network's inputs; axes of one name share one Dim.

    Args:
        network: the network.
    """

    def __init__(self, network: Emitter[Tensor]) -> None:
        self._network = network
        self._named: dict[str, Dim] = {}

    def declare(self, shape: Sequence[AxisSize]) -> None:
        """Notes the named axes of an input of this `shape`.

        Raises:
            ShapeError: an axis has another range in another input.
        """
        for axis in shape:
            if isinstance(axis, (str, Axis)):
                self._network.guards.declare(axis)

    def dims(self, itensor: Any, shape: Sequence[AxisSize]) -> tuple[int | Dim, ...]:
        """Sizes of the input `itensor`, declared with `shape`; names its axes in TensorRT."""
        dims: list[int | Dim] = []
        for axis, size in enumerate(shape):
            given = size.name if isinstance(size, Axis) else size
            if isinstance(given, str):
                itensor.set_dimension_name(axis, given)
                own = Dim(self._network, ("named", given, itensor, axis))
                dims.append(self._named.setdefault(given, own))
            elif given is None or given < 0:
                dims.append(Dim(self._network, ("size", itensor, axis)))
            else:
                dims.append(int(given))
        return tuple(dims)
