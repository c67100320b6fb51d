"""Computes, in the engine, the sizes that are known only at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import int64
from trtnet.tensor import Dim, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.value import InputValue


class ShapeTensors:
    """The shape tensors of one network; the same size is emitted once."""

    def __init__(self, network: Emitter[Tensor]) -> None:
        self._network = network
        self._known: dict[Any, Tensor] = {}

    def tensor(self, sizes: Sequence[int | Dim]) -> Tensor:
        """A 1-D int64 tensor holding `sizes`."""
        parts = [self._size(size.key if isinstance(size, Dim) else int(size)) for size in sizes]
        if len(parts) == 1:
            return parts[0]
        return self._network.emit("sizes", "add_concatenation", [part.itensor for part in parts])

    def _size(self, key: Any) -> Tensor:
        """One int64 element: the size that `key`, an int or that of a :class:`Dim`, describes."""
        if not isinstance(key, tuple):
            return self._network.constant(np.array([key], np.int64), int64)
        if key not in self._known:
            is_axis = key[0] in ("size", "named")
            self._known[key] = self._of_axis(*key[-2:]) if is_axis else self._computed(*key)
        return self._known[key]

    def _of_axis(self, owner: Any, axis: int) -> Tensor:
        itensor = owner.itensor if isinstance(owner, InputValue) else owner
        whole = ("shape", itensor)
        if whole not in self._known:
            self._known[whole] = self._network.emit("shape", "add_shape", itensor)
        return self._network.emit("size", "add_slice", self._known[whole], (axis,), (1,), (1,))

    def _computed(self, operation: str, left: Any, right: Any) -> Tensor:
        kind = getattr(self._network.trt.ElementWiseOperation, operation)
        operands = self._size(left), self._size(right)
        return self._network.emit("size", "add_elementwise", *operands, kind)
