"""The axes of a network's inputs: fixed sizes, and dynamic ones that may have names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError
from trtnet.tensor import Dim


def declared_sizes(name: str, shape: Sequence[int | str | None]) -> list[int]:
    """The sizes of the input `name` as TensorRT takes them: -1 for a dynamic axis.

    Raises:
        ShapeError: a size that is neither positive nor dynamic.
    """
    sizes = [-1 if size is None or isinstance(size, str) else int(size) for size in shape]
    if any(size == 0 or size < -1 for size in sizes):
        wanted = "positive sizes, names, or None"
        raise ShapeError("impossible input size", module=name, got=tuple(shape), expected=wanted)
    return sizes


class NamedAxes:
    """The Dims of one network's inputs; axes of one name share one Dim.

    Args:
        network: the network.
    """

    def __init__(self, network: object) -> None:
        self._network = network
        self._named: dict[str, Dim] = {}

    def dims(self, itensor: Any, shape: Sequence[int | str | None]) -> tuple[int | Dim, ...]:
        """Sizes of the input `itensor`, declared with `shape`; names its axes in TensorRT."""
        dims: list[int | Dim] = []
        for axis, given in enumerate(shape):
            if isinstance(given, str):
                itensor.set_dimension_name(axis, given)
                own = Dim(self._network, ("named", given, itensor, axis))
                dims.append(self._named.setdefault(given, own))
            elif given is None or given < 0:
                dims.append(Dim(self._network, ("size", itensor, axis)))
            else:
                dims.append(int(given))
        return tuple(dims)
