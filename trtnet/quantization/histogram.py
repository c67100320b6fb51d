"""The distribution of a tensor's values, as counts over bins that are known beforehand.

A bin holds the float32 values that share sign, exponent and the first 11 bits of the mantissa: the
upper 20 bits of a value are the number of its bin. The bins do not depend on the
range of the data, so counts of parts add up, however the data is split, and one pass is enough.

Eleven bits, because a bin is then never wider than one of 2,048 equal bins between 0 and the
largest magnitude, the resolution that TensorRT's calibrators had; 2,048 equal bins up to the
next power of two can be put together from them without cutting one; and 65,520, from which on
FP16 rounds to infinity, lies between two bins. Small values, which FP8 keeps too, have small bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

MANTISSA_BITS = 11
BINS = 1 << MANTISSA_BITS  # in each row: the values of one sign and exponent
ROWS = 512  # the exponents of negative values, then those of positive ones
SHIFT = 23 - MANTISSA_BITS  # of a float32's bits, to get the number of its bin
_HALF = ROWS // 2
_NOT_FINITE = _HALF - 1  # the exponent of infinities and NaN
_LINEAR_BINS = 2048


class Histogram:
    """Counts of float32 values. Values nearer to zero than 2**-137 count as zero.

    Attributes:
        rows: exponent rows that hold anything: row number → int64 counts of shape (2048,). Row
            ``e`` has the negative values of biased exponent ``e``, row ``256 + e`` the positive
            ones, both in the order of rising magnitude.
        amax: the largest finite magnitude, exact.
    """

    def __init__(self, rows: Mapping[int, np.ndarray] | None = None, amax: float = 0.0) -> None:
        self.rows = dict(rows or {})
        self.amax = amax

    def add(self, bins: np.ndarray, counts: np.ndarray, amax: float) -> None:
        """Adds counts.

        Args:
            bins: numbers of bins, each row's after those of the row before: ``2048 * row`` and
                the place in it. Rising, none twice.
            counts: how many values each of them has.
            amax: the largest finite magnitude among the values.
        """
        numbers = bins >> MANTISSA_BITS
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(bins)], strict=True):
            row = self.rows.setdefault(int(numbers[start]), np.zeros(BINS, np.int64))
            row[bins[start:end] % BINS] += counts[start:end]
        self.amax = max(self.amax, amax)

    @property
    def total(self) -> int:
        """The number of values."""
        return sum(int(counts.sum()) for counts in self.rows.values())

    @property
    def is_consistent(self) -> bool:
        """Whether the last bin of finite magnitudes that holds anything is that of `amax`."""
        last = 0
        for row, counts in self.rows.items():
            filled = np.flatnonzero(counts)
            if row % _HALF != _NOT_FINITE and len(filled):
                last = max(last, (row % _HALF << MANTISSA_BITS) + int(filled[-1]))
        return last == int(np.float32(self.amax).view(np.uint32)) >> SHIFT

    @property
    def nonfinite(self) -> int:
        """The number of NaN and infinite values."""
        rows = (self.rows.get(_NOT_FINITE), self.rows.get(_HALF + _NOT_FINITE))
        return sum(int(counts.sum()) for counts in rows if counts is not None)

    def magnitudes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower and upper edges (float64) and int64 counts of the bins of finite magnitudes in
        rising order, both signs together; whole rows that hold nothing are left out."""
        exponents = sorted({row % _HALF for row in self.rows} - {_NOT_FINITE})
        if not exponents:
            return np.empty(0), np.empty(0), np.empty(0, np.int64)
        first = np.array(exponents, np.uint32)[:, None] << np.uint32(MANTISSA_BITS)
        bins = (first + np.arange(BINS, dtype=np.uint32)).reshape(-1)
        empty = np.zeros(BINS, np.int64)
        counts = [self.rows.get(e, empty) + self.rows.get(_HALF + e, empty) for e in exponents]
        return _edge(bins), _edge(bins + np.uint32(1)), np.concatenate(counts)

    def between(self, low: float, high: float) -> int:
        """The number of finite values with a magnitude from `low` on and below `high`, both of
        them edges of bins; zeros never count."""
        lower, _, counts = self.magnitudes()
        return int(counts[(lower > 0) & (lower >= low) & (lower < high)].sum())

    def linear(self) -> tuple[np.ndarray, float]:
        """Counts over equal bins from minus to plus the largest magnitude, and the bins' width.

        The width is a 2,048th of the power of two from the largest magnitude on, so there are
        1,025 to 2,048 bins for each sign; the outermost include the largest magnitude itself.

        Raises:
            ValueError: there are no values but zeros.
        """
        if not self.amax:
            raise ValueError("a histogram of zeros has no width")
        fraction, exponent = math.frexp(self.amax)
        width = math.ldexp(1 / _LINEAR_BINS, exponent - (fraction == 0.5))
        half = math.ceil(self.amax / width)
        counts = np.zeros(2 * half, np.int64)
        for row, values in self.rows.items():
            exponent = row % _HALF
            if exponent == _NOT_FINITE:
                continue
            bins = np.arange(exponent << MANTISSA_BITS, (exponent + 1) << MANTISSA_BITS)
            index = np.minimum(_edge(bins.astype(np.uint32)) / width, half - 1).astype(np.int64)
            negative = row < _HALF
            place = half - 1 - index if negative else half + index
            if negative and exponent == 0:
                place[0] = half  # minus zero is zero
            np.add.at(counts, place, values)
        return counts, width


def _edge(bins: np.ndarray) -> np.ndarray:
    """The lower edges, as float64, of the uint32 `bins` of positive values."""
    edges = np.asarray(bins << np.uint32(SHIFT))
    return edges.view(np.float32).astype(np.float64)
