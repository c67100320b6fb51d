"""Computes, in the engine, the sizes that are known only at run time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import int64
from trtnet.tensor import Dim, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.intervals import OPERATIONS, evaluate
from trtnet.tensor.value import InputValue


class ShapeTensors:
    """The shape tensors of one network; the same size is emitted once."""

    def __init__(self, network: Emitter[Tensor]) -> None:
        self._network = network
        self._known: dict[Any, Tensor] = {}
        self._operations = {name: functools.partial(self._computed, name) for name in OPERATIONS}

    def tensor(self, sizes: Sequence[int | Dim]) -> Tensor:
        """A 1-D int64 tensor holding `sizes`."""
        parts = [self._size(size.key if isinstance(size, Dim) else int(size)) for size in sizes]
        if len(parts) == 1:
            return parts[0]
        return self._network.emit("sizes", "add_concatenation", [part.itensor for part in parts])

    def _size(self, tree: Any) -> Tensor:
        """One int64 element: the size that `tree`, an int or the key of a :class:`Dim`, describes.

        The results of equal operations on the same operands are one tensor.
        """
        found: Tensor = evaluate(tree, self._of_axis, self._operations, self._number)
        return found

    def _number(self, value: int) -> Tensor:
        key = ("number", value)
        if key not in self._known:
            self._known[key] = self._network.constant(np.array([value], np.int64), int64)
        return self._known[key]

    def _of_axis(self, key: tuple[Any, ...]) -> Tensor:
        if key not in self._known:
            owner, axis = key[-2:]
            itensor = owner.itensor if isinstance(owner, InputValue) else owner
            whole = ("shape", itensor)
            if whole not in self._known:
                self._known[whole] = self._network.emit("shape", "add_shape", itensor)
            shape = self._known[whole]
            self._known[key] = self._network.emit("size", "add_slice", shape, (axis,), (1,), (1,))
        return self._known[key]

    def _computed(self, operation: str, left: Tensor, right: Tensor) -> Tensor:
        key = (operation, id(left), id(right))  # of tensors that `_known` holds
        if key not in self._known:
            kind = getattr(self._network.trt.ElementWiseOperation, operation)
            self._known[key] = self._network.emit("size", "add_elementwise", left, right, kind)
        return self._known[key]
