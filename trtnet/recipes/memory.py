"""Which memory holds the values of which step."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Extent:
    """Elements in memory.

    Attributes:
        address: of the first element.
        shape, strides: sizes, and steps in bytes.
        dtype: name of numpy's element type, or ``bfloat16``.
        itemsize: bytes of an element.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    itemsize: int

    @classmethod
    def of(cls, array: np.ndarray) -> Extent:
        """That of an array."""
        return cls(
            array.ctypes.data, array.shape, array.strides, array.dtype.name, array.dtype.itemsize
        )

    @property
    def is_empty(self) -> bool:
        """Whether it has no element."""
        return 0 in self.shape

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest address, and the one behind the last element."""
        low = high = self.address
        for size, stride in zip(self.shape, self.strides, strict=True):
            reach = (size - 1) * stride
            low, high = (low + reach, high) if reach < 0 else (low, high + reach)
        return low, high + self.itemsize


@dataclass(frozen=True, eq=False)
class Region:
    """Memory that holds the values of a step, and whoever owns it, so that it stays what it is."""

    low: int
    high: int
    step: int
    owner: Any


class Memory:
    """The regions of one network; they do not overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: list[Region] = []

    def add(self, region: Region) -> None:
        """Adds `region`, in which none is yet."""
        place = bisect.bisect(self._starts, region.low)
        self._starts.insert(place, region.low)
        self._regions.insert(place, region)

    def remove(self, region: Region) -> None:
        """Forgets `region`, and lets its owner go."""
        place = self._regions.index(region)
        del self._starts[place], self._regions[place]

    def replace(self, old: Region, new: Region) -> None:
        """Says that the memory of `old` holds other values now."""
        self._regions[self._regions.index(old)] = new

    def find(self, bounds: tuple[int, int]) -> Region | None:
        """The region that holds all of `bounds`."""
        place = bisect.bisect(self._starts, bounds[0]) - 1
        if place >= 0 and bounds[1] <= self._regions[place].high:
            return self._regions[place]
        return None

    def touching(self, bounds: tuple[int, int]) -> Sequence[Region]:
        """All regions that hold some of `bounds`."""
        place = max(bisect.bisect(self._starts, bounds[0]) - 1, 0)
        found = []
        while place < len(self._regions) and self._starts[place] < bounds[1]:
            if self._regions[place].high > bounds[0]:
                found.append(self._regions[place])
            place += 1
        return found
