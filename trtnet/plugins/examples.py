"""Seeded random inputs of plugins, on which the parts of a plugin are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, bool_

_RANKS = (1, 2, 3, 4)


class Draw:
    """Random sizes and arrays, from which ``example(cls, draw)`` makes inputs.

    Args:
        seed: equal seeds give equal inputs.
        largest, smallest: bounds of an axis's size.
        empty: makes one size in twenty zero.
        rank: number of axes of the arrays of :meth:`alike`; ``None`` draws it, from 1 to 4.

    Attributes:
        seed: the seed.
        rng: numpy's random generator.
    """

    def __init__(
        self,
        seed: int,
        largest: int = 6,
        smallest: int = 1,
        empty: bool = False,
        rank: int | None = None,
    ) -> None:
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self._largest, self._smallest = largest, smallest
        self._empty, self._rank = empty, rank

    def size(self, low: int = 1, high: int | None = None) -> int:
        """Returns a random size of an axis.

        Args:
            low: the smallest size, at least the constructor's `smallest`.
            high: the largest size, at most the constructor's `largest`.

        Returns:
            A size in these bounds; if the constructor's `empty` is set, 0 in one case of twenty.
        """
        if self._empty and self.rng.random() < 0.05:
            return 0
        most = max(low, self._largest if high is None else min(high, self._largest))
        return int(self.rng.integers(min(most, max(low, self._smallest)), most + 1))

    def choice(self, *values: Any) -> Any:
        """Returns one of `values` at random."""
        return values[int(self.rng.integers(len(values)))]

    def array(self, *shape: int) -> np.ndarray:
        """Returns an array of normally distributed float64 values."""
        return self.rng.standard_normal(shape)

    def named(self, *axes: str) -> list[np.ndarray]:
        """Returns an array for each text such as ``"N C H 4"``, which names the array's axes.

        Axes of the same name have the same random size; a number is a fixed size.
        """
        sizes: dict[str, int] = {}
        for name in " ".join(axes).split():
            sizes.setdefault(name, int(name) if name.isdigit() else self.size())
        return [self.array(*(sizes[name] for name in text.split())) for text in axes]

    def alike(self, count: int) -> list[np.ndarray]:
        """Returns `count` arrays of one random shape."""
        shape = [self.size() for _ in range(self._rank or self.choice(*_RANKS))]
        return [self.array(*shape) for _ in range(count)]


def as_type(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Returns `array` with values that a tensor of `dtype` can hold.

    Integers and booleans stay as they are, and so do floats for a floating-point type. For an
    integer type, floats are multiplied by 40 and rounded without their sign; for bool, positive
    values are true.
    """
    if dtype.is_floating_point or array.dtype.kind in "iub":
        return array
    if dtype is bool_:
        return np.asarray(array > 0)
    return np.asarray(np.rint(np.abs(array) * 40), np.int64)
