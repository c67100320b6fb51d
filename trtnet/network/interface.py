"""Inputs and outputs of a network: their names, and the axes of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from trtnet.errors import NetworkError, ShapeError
from trtnet.tensor import Axis, Dim, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.value import InputValue

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


class Inputs:
    """The inputs of one network; axes of one name share one Dim.

    Args:
        network: the network.

    Attributes:
        tensors: the inputs, by name.
    """

    def __init__(self, network: Emitter[Tensor]) -> None:
        self._network = network
        self._named: dict[str, Dim] = {}
        self._declared: dict[str, tuple[Any, Sequence[AxisSize], InputValue]] = {}
        self.tensors: dict[str, Tensor] = {}

    def declare(self, name: str, shape: Sequence[AxisSize], kind: Any) -> Tensor:
        """Declares the input `name` of the ``trt.DataType`` `kind`; see
        :meth:`trtnet.Network.input`."""
        sizes = declared_sizes(name, shape)
        for axis in shape:
            if isinstance(axis, (str, Axis)):
                self._network.guards.declare(axis)
        value = InputValue(self._network, None, None)
        itensor = self._network.add_input(name, kind, sizes)
        value.declared(itensor)
        value.declared(itensor, self._dims(value, shape))
        self._declared[name] = kind, shape, value
        tensor = Tensor.of(value)
        tensor.is_dense = True
        self.tensors[name] = tensor.as_it_is()  # the model may work in place on what it gets
        return tensor

    def again(self) -> None:
        """Declares the same inputs in the new definition of a network that begins again."""
        for name, (kind, shape, value) in self._declared.items():
            value.declared(self._network.add_input(name, kind, declared_sizes(name, shape)))
            self._name_axes(value.itensor, shape)

    def _dims(self, value: InputValue, shape: Sequence[AxisSize]) -> tuple[int | Dim, ...]:
        """Sizes of the input `value`, declared with `shape`."""
        self._name_axes(value.itensor, shape)
        dims: list[int | Dim] = []
        for axis, size in enumerate(shape):
            given = size.name if isinstance(size, Axis) else size
            if isinstance(given, str):
                own = Dim(self._network, ("named", given, value, axis))
                dims.append(self._named.setdefault(given, own))
            elif given is None or given < 0:
                dims.append(Dim(self._network, ("size", value, axis)))
            else:
                dims.append(int(given))
        return tuple(dims)

    @staticmethod
    def _name_axes(itensor: Any, shape: Sequence[AxisSize]) -> None:
        for axis, size in enumerate(shape):
            if isinstance(size, (str, Axis)):
                itensor.set_dimension_name(axis, size.name if isinstance(size, Axis) else size)
