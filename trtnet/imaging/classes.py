"""Class maps: the number of a class for each pixel."""

from __future__ import annotations

import numpy as np


def map_of_size(classes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The class map in another size: each pixel has the class of the nearest one, as with
    Pillow's NEAREST and PyTorch's ``nearest-exact``.

    >>> map_of_size(np.array([[1, 2]]), 2, 4).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    rows, columns = (
        (2 * np.arange(want) + 1) * have // (2 * want)
        for have, want in zip(classes.shape, (height, width), strict=True)
    )
    return classes[rows][:, columns]


def shares(classes: np.ndarray) -> dict[int, float]:
    """The part of all pixels that each class has, of those that are there, largest first.

    >>> shares(np.array([[0, 0], [3, 0]]))
    {0: 0.75, 3: 0.25}
    """
    counts = np.bincount(classes.reshape(-1))
    order = np.argsort(-counts, kind="stable")
    return {int(i): float(counts[i] / classes.size) for i in order if counts[i]}
