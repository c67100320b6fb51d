"""The threshold whose 128 levels lose the least information (Kullback-Leibler divergence).

S. Migacz, "8-bit Inference with TensorRT", GTC 2017, in the form it has in onnxruntime's
``HistogramCollector.get_entropy_threshold``: on the signed distribution, with counts rounded down.
"""

from __future__ import annotations

import numpy as np

LEVELS = 128
_EPSILON = 1e-4  # what an empty bin gets


def entropy_threshold(counts: np.ndarray, width: float) -> float:
    """The threshold, a multiple of `width`.

    Args:
        counts: an even number of bins of equal `width`, with zero in the middle.
    """
    half = len(counts) // 2
    totals = np.concatenate(([0], np.cumsum(counts)))
    best, lowest = half, np.inf
    for reach in range(LEVELS // 2, half + 1):
        start, end = half - reach, min(half + reach + 1, len(counts))
        outside = (int(totals[start]), int(totals[-1] - totals[end]))
        divergence = _divergence(counts[start:end], outside)
        if divergence < lowest:
            best, lowest = end - half, divergence
    return best * width


def _divergence(inside: np.ndarray, outside: tuple[int, int]) -> float:
    """The divergence of the quantized distribution from the clipped one.

    Args:
        inside: counts between the thresholds.
        outside: how many values are clipped to the first bin, and to the last.
    """
    clipped = inside.copy()
    clipped[0] += outside[0]
    clipped[-1] += outside[1]
    size = len(inside) // LEVELS  # of a level, in bins; the last level also has the rest
    whole = size * LEVELS
    sums = inside[:whole].reshape(LEVELS, size).sum(axis=1)
    sums[-1] += inside[whole:].sum()
    used = np.count_nonzero(clipped[:whole].reshape(LEVELS, size), axis=1)
    quantized = np.zeros(len(inside), np.int64)
    quantized[:whole] = np.repeat(np.where(used > 0, sums // np.maximum(used, 1), 0), size)
    if not quantized.any():
        return np.inf
    p, q = _smooth(clipped), _smooth(quantized)
    return float(p @ np.log(p / q))


def _smooth(counts: np.ndarray) -> np.ndarray:
    """`counts` as probabilities; zeros get a little, which is taken from the others."""
    empty = counts == 0
    zeros = np.count_nonzero(empty)
    taken = _EPSILON * zeros / (len(counts) - zeros)
    smoothed = np.where(empty, _EPSILON, counts - taken)
    return np.asarray(smoothed / smoothed.sum())
