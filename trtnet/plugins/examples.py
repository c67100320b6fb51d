"""Seeded inputs of a plugin, by which its parts are held against each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, bool_

_RANKS = (1, 2, 3, 4)


class Draw:
    """What ``example(cls, draw)`` makes inputs from.

    Args:
        seed: equal seeds give equal inputs.
        largest, smallest: sizes of an axis.
        empty: whether one size in twenty is zero.
        rank: of tensors that are all alike; drawn if None.

    Attributes:
        seed: as given.
        rng: numpy's generator.
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
        """The size of an axis, from `low` to `high`; sometimes 0 where that is wanted."""
        if self._empty and self.rng.random() < 0.05:
            return 0
        most = max(low, self._largest if high is None else min(high, self._largest))
        return int(self.rng.integers(min(most, max(low, self._smallest)), most + 1))

    def choice(self, *values: Any) -> Any:
        """One of `values`."""
        return values[int(self.rng.integers(len(values)))]

    def array(self, *shape: int) -> np.ndarray:
        """Normal values, float64."""
        return self.rng.standard_normal(shape)

    def named(self, *axes: str) -> list[np.ndarray]:
        """Arrays with the axes ``"N C H 4"``: the same name is the same size."""
        sizes: dict[str, int] = {}
        for name in " ".join(axes).split():
            sizes.setdefault(name, int(name) if name.isdigit() else self.size())
        return [self.array(*(sizes[name] for name in text.split())) for text in axes]

    def alike(self, count: int) -> list[np.ndarray]:
        """`count` arrays of one shape."""
        shape = [self.size() for _ in range(self._rank or self.choice(*_RANKS))]
        return [self.array(*shape) for _ in range(count)]


def as_type(array: np.ndarray, dtype: DType) -> np.ndarray:
    """`array` with values that a `dtype` tensor holds exactly or nearly so; floats stay
    float64. Normal values become integers around, or above, zero."""
    if dtype.is_floating_point or array.dtype.kind in "iub":
        return array
    if dtype is bool_:
        return array > 0
    return np.rint(np.abs(array) * 40).astype(np.int64)
