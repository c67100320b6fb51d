"""Computes, in the engine, the sizes that are known only at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import int64
from trtnet.tensor import Dim, Tensor

if TYPE_CHECKING:
    from trtnet.network.network import Network


class Sizes:
    """The shape tensors of one network; what is asked for twice is emitted once."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[Any, Tensor] = {}

    def tensor(self, sizes: Sequence[int | Dim]) -> Tensor:
        """A 1-D int64 tensor holding `sizes`."""
        parts = [self._size(size.key if isinstance(size, Dim) else int(size)) for size in sizes]
        if len(parts) == 1:
            return parts[0]
        return self._network.emit("sizes", "add_concatenation", [part.itensor for part in parts])

    def _size(self, key: Any) -> Tensor:
        """The size a :class:`Dim` with `key`, or an int, stands for, as one element."""
        if not isinstance(key, tuple):
            return self._network.constant(np.array([key], np.int64), int64)
        if key not in self._known:
            self._known[key] = self._read(key) if key[0] in ("size", "named") else self._join(key)
        return self._known[key]

    def _read(self, key: tuple[Any, ...]) -> Tensor:
        network, axis = self._network, key[-1]
        source = key[1] if key[0] == "size" else network.inputs[key[2]].itensor
        whole = ("shape", source)
        if whole not in self._known:
            self._known[whole] = network.emit("shape", "add_shape", source)
        return network.emit("size", "add_slice", self._known[whole], (axis,), (1,), (1,))

    def _join(self, key: tuple[Any, ...]) -> Tensor:
        kind = getattr(self._network.trt.ElementWiseOperation, key[0])
        left, right = self._size(key[1]), self._size(key[2])
        return self._network.emit("size", "add_elementwise", left, right, kind)
