"""Seeded random inputs of plugins, on which the parts of a plugin are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, bool_
from trtnet.errors import ShapeError, UsageError
from trtnet.plugins.axes import Axes, Row, parse_axes, text_of

_RANKS = (1, 2, 3, 4)
_ATTEMPTS = 400  # sizes that are drawn for one example


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
        """Returns an array for each text such as ``"N 2*C H 4"``, which states the array's axes.

        A name has the same random size everywhere; a number is a fixed size, and expressions such
        as ``2*C`` are computed (:mod:`trtnet.plugins.axes`).
        """
        rows = [parse_axes(text) for text in axes]
        return [self.array(*shape) for shape in self._shapes(rows, {})]

    def fitting(self, axes: Axes, constants: Mapping[str, int]) -> list[np.ndarray]:
        """Returns arrays for the inputs of a plugin with these `axes`, whose outputs have sizes
        too.

        Args:
            constants: values of the plugin's attributes that are ints.
        """
        shapes = self._shapes([*axes.inputs, *(axes.outputs or ())], constants)
        return [self.array(*shape) for shape in shapes[: len(axes.inputs)]]

    def _shapes(self, rows: Sequence[Row], constants: Mapping[str, int]) -> list[tuple[int, ...]]:
        """Shapes with these axes, drawn again, and larger, until every axis has a size."""
        names = dict.fromkeys(name for row in rows for axis in row for name in axis.names)
        free = [name for name in names if name not in constants]
        least = 0 if self._empty else 1
        for attempt in range(_ATTEMPTS):
            low = 1 + attempt // 4
            sizes = {**constants, **{name: self.size(low) for name in free}}
            try:
                shapes = [tuple(int(axis.value(sizes)) for axis in row) for row in rows]
            except ShapeError:  # a division by a size that is zero
                continue
            if all(size >= least for shape in shapes for size in shape):
                return shapes
        raise UsageError(
            "no sizes were found with which every axis has a positive size",
            got=text_of(rows),
            fix="declare example(cls, draw), which makes inputs that fit together",
        )

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
