"""The memory that holds a network's weights."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np

_BLOCK = 1 << 23  # elements; 32 MB


class WeightMemory:
    """Arrays that live as long as `definition`: TensorRT keeps pointers, not arrays, and a
    read-back graph may keep the definition longer than its network."""

    def __init__(self, definition: Any) -> None:
        self._held: list[np.ndarray] = []
        self._block = np.empty(0, np.float32)
        weakref.finalize(definition, self._held.clear).atexit = False

    def hold(self, array: np.ndarray) -> np.ndarray:
        """`array`, kept."""
        self._held.append(array)
        return array

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 memory for computed weights, such as folded ones.

        It is cut from large blocks, which the system backs with huge pages: a fraction of the
        page faults of separate arrays.
        """
        size = math.prod(shape)
        if size > self._block.size:
            self._block = np.empty(max(size, _BLOCK), np.float32)
        cut, self._block = self._block[:size], self._block[size:]
        return cut.reshape(shape)
