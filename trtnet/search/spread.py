"""How much a metric depends on which items it was measured on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Standard errors of metrics: by how much they would differ on other items like these.

    They are the jackknife's: from the values without one item each (B. Efron and C. Stein, "The
    jackknife estimate of variance", The Annals of Statistics 9, 1981). Items that are alike, such
    as pictures of one scene, make them too small.

    Attributes:
        items: how many items they are from.
        sqnr_db: of the SQNR, in dB.
        cosine: of the cosine.
        top1_drop: of the drop of top-1, in points; ``None`` without labels.
    """

    items: int
    sqnr_db: float
    cosine: float
    top1_drop: float | None


def standard_error(items: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """The jackknife's standard error of ``value(items.sum(0))``.

    Args:
        items: sums of each item, of shape [N, K].
        value: takes sums of shape [M, K] and returns M values.

    Returns:
        ``None`` for fewer than two items, and where a value is not finite.
    """
    count = len(items)
    if count < 2:
        return None
    with np.errstate(all="ignore"):
        without = value(items.sum(0) - items)
        found = math.sqrt((count - 1) * float(np.var(without)))
    return found if math.isfinite(found) else None


def sqnr_db(sums: np.ndarray) -> np.ndarray:
    """Of the squared norms [M, 3] of the error, of ours and of theirs."""
    found: np.ndarray = 10 * np.log10(sums[:, 2] / sums[:, 0])
    return found


def cosine(sums: np.ndarray) -> np.ndarray:
    """Of the squared norms [M, 3] of the error, of ours and of theirs."""
    square, ours, theirs = sums.T
    found: np.ndarray = (ours + theirs - square) / (2 * np.sqrt(ours * theirs))
    return found


def points(sums: np.ndarray) -> np.ndarray:
    """Percent of the sums [M, 2] of lost answers and of all."""
    found: np.ndarray = 100 * sums[:, 0] / sums[:, 1]
    return found
