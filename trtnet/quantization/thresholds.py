"""From a distribution to a threshold: the largest magnitude that quantization keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import UsageError
from trtnet.precision.table import QUANTIZED, STORED
from trtnet.quantization.entropy import entropy_threshold
from trtnet.quantization.histogram import Histogram
from trtnet.quantization.table import METHODS

PERCENTILE = 99.99
_OCTAVES = 12  # below the largest magnitude, in which the least squared error is looked for
_STEPS = 64  # per octave, and again around the best of them
_SMALLEST = 2.0**-100  # a scale of a smaller magnitude would not be a normal float32
_DEAD = 1.0  # the threshold of a tensor that is always zero: any scale represents that


def threshold(
    histogram: Histogram,
    method: str,
    *,
    precision: str = "int8",
    percentile: float = PERCENTILE,
) -> float:
    """The magnitude that becomes the largest code (127 in INT8, 448 in FP8); positive.

    Args:
        method: ``"minmax"``: the largest magnitude; ``"percentile"``: the `percentile` of the
            magnitudes; ``"entropy"``: see :mod:`trtnet.quantization.entropy`; ``"mse"``: the least
            squared error in `precision`, up to a 64th of a 64th of an octave.
        precision: one of :data:`trtnet.precision.QUANTIZED`.

    Raises:
        UsageError: an unknown method or precision, or an impossible percentile.
    """
    if method not in METHODS:
        raise UsageError("unknown calibration method", expected=", ".join(METHODS), got=method)
    if precision not in LEVELS:
        raise UsageError(
            f"calibration is for {' and '.join(LEVELS)}", expected=", ".join(LEVELS), got=precision
        )
    if not 0 < percentile <= 100:
        raise UsageError("impossible percentile", expected="above 0, up to 100", got=percentile)
    if histogram.amax < _SMALLEST:
        return _DEAD
    if method == "percentile":
        found = percentile_threshold(histogram, percentile)
    elif method == "entropy":
        found = min(entropy_threshold(*histogram.linear()), histogram.amax)
    elif method == "mse":
        found = mse_threshold(histogram, LEVELS[precision])
    else:
        found = histogram.amax
    return found if found >= _SMALLEST else histogram.amax


def percentile_threshold(histogram: Histogram, percentile: float) -> float:
    """The lower edge of the bin with the `percentile` of all magnitudes, zeros among them; in the
    last bin the largest magnitude."""
    lower, upper, counts = histogram.magnitudes()
    wanted = math.ceil(round(counts.sum() * percentile / 100, 6))
    index = int(np.searchsorted(np.cumsum(counts), wanted))
    return histogram.amax if histogram.amax < upper[index] else float(lower[index])


def mse_threshold(histogram: Histogram, levels: np.ndarray) -> float:
    """The threshold with the least squared error of rounding to the nearest of `levels`.

    Args:
        levels: the magnitudes that the type has, rising, as parts of the largest.
    """
    lower, upper, counts = histogram.magnitudes()
    used = counts > 0
    middles = np.minimum((lower + upper)[used] / 2, histogram.amax)
    if lower[used][0] == 0:
        middles[0] = 0.0
    moments = _moments(middles, counts[used])
    coarse = histogram.amax * np.exp2(-np.arange(_OCTAVES * _STEPS) / _STEPS)
    best = coarse[np.argmin(_squared_errors(middles, moments, coarse, levels))]
    fine = np.minimum(best * np.exp2(np.arange(_STEPS, -_STEPS, -1) / _STEPS**2), histogram.amax)
    return float(fine[np.argmin(_squared_errors(middles, moments, fine, levels))])


def _moments(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Running sums of the counts, the values and their squares, of shape (3, values + 1)."""
    powers = np.stack([counts, counts * values, counts * values**2])
    return np.pad(np.cumsum(powers, axis=1), ((0, 0), (1, 0)))


def _squared_errors(
    values: np.ndarray, moments: np.ndarray, thresholds: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """The summed squared error for each of `thresholds`."""
    midpoints = (levels[1:] + levels[:-1]) / 2
    cuts = np.searchsorted(values, thresholds[:, None] * midpoints)
    cuts = np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (0, len(values))))
    count, first, second = np.diff(moments[:, cuts], axis=2)
    level = thresholds[:, None] * levels
    errors: np.ndarray = second - 2 * level * first + level**2 * count
    return np.asarray(errors.sum(axis=1))


def _magnitudes(stored: DType, largest: float) -> np.ndarray:
    """The magnitudes up to `largest` that a code of the type `stored` can have, rising."""
    if stored.element.kind == "integer":
        return np.arange(largest + 1)
    codes = np.arange(127)  # float8_e4m3: three bits of mantissa, bias 7, 448 at most
    exponent, mantissa = codes >> 3, (codes & 7) / 8
    values = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * np.exp2(exponent - 7.0))
    return values[values <= largest]


LEVELS: Mapping[str, np.ndarray] = {
    name: _magnitudes(*STORED[name]) / STORED[name][1] for name in QUANTIZED
}
"""The magnitudes that each quantized precision has, rising, as parts of the largest."""
