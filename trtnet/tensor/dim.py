"""Dim: a size that is known only at run time."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.errors import NetworkError, ShapeError

_SIGNS = {"SUM": "+", "SUB": "-", "PROD": "*", "FLOOR_DIV": "//"}
_NEUTRAL = {"SUM": 0, "SUB": 0, "PROD": 1, "FLOOR_DIV": 1}  # right operands that change nothing
_COMMUTES = ("SUM", "PROD")


class Dim:
    """A size that is known only at run time, such as a dynamic batch.

    ``x.shape[i]`` is an ``int`` where the size is fixed and a `Dim` where it is not. Dims take
    part in integer arithmetic (``+ - * //``) with ints and with each other; the result is a
    `Dim`, computed by the engine from the shapes of its inputs. Two Dims are equal when they are
    written the same way (``x.shape[0] * 2 == x.shape[0] * 2``).

    Attributes:
        network: the network whose engine computes it.
        key: how it is computed: ``("size", itensor, axis)``, ``("named", name, itensor, axis)``,
            or an operation of ``trt.ElementWiseOperation`` and its two operands.
    """

    __slots__ = ("key", "network")

    def __init__(self, network: object, key: tuple[Any, ...]) -> None:
        self.network, self.key = network, key

    def _with(self, op: str, other: Any, swap: bool = False) -> Any:
        if not isinstance(other, (int, np.integer, Dim)) or isinstance(other, bool):
            return NotImplemented
        if isinstance(other, Dim) and other.network is not self.network:
            raise NetworkError("sizes of two networks cannot be mixed", got=f"{self} and {other}")
        right = other.key if isinstance(other, Dim) else int(other)
        if right == _NEUTRAL.get(op) and (not swap or op in _COMMUTES):
            return self
        pair = (right, self.key) if swap else (self.key, right)
        return Dim(self.network, (op, *pair))

    def __add__(self, other: Any) -> Any:
        return self._with("SUM", other)

    def __radd__(self, other: Any) -> Any:
        return self._with("SUM", other, swap=True)

    def __sub__(self, other: Any) -> Any:
        return self._with("SUB", other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("SUB", other, swap=True)

    def __mul__(self, other: Any) -> Any:
        return self._with("PROD", other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("PROD", other, swap=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._with("FLOOR_DIV", other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._with("FLOOR_DIV", other, swap=True)

    def minimum(self, other: Any) -> Any:
        """The smaller of two sizes."""
        return self._with("MIN", other)

    def maximum(self, other: Any) -> Any:
        """The larger of two sizes."""
        return self._with("MAX", other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.network is other.network and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __bool__(self) -> bool:
        return True  # like a positive int: `size or default` keeps the size

    def _unknown(self, *_: object) -> Any:
        raise ShapeError(
            f"the size {self} is known only at run time",
            fix="give this axis a fixed size in network.input(...), or write the code without "
            "comparing or converting it",
        )

    __int__ = __index__ = __float__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = _unknown

    def __repr__(self) -> str:
        return _describe(self.key)


def _describe(key: Any) -> str:
    if not isinstance(key, tuple):
        return str(key)
    if key[0] == "named":
        return str(key[1])
    if key[0] == "size":
        return f"{key[1].name}.shape[{key[2]}]"
    left, right = _describe(key[1]), _describe(key[2])
    sign = _SIGNS.get(key[0])
    return f"({left} {sign} {right})" if sign else f"{key[0].lower()}({left}, {right})"
