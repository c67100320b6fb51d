"""Class maps: arrays with a class number for each pixel."""

from __future__ import annotations

import numpy as np


def map_of_size(classes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The class map `classes` resized: each pixel gets the class of the nearest pixel, as with
    Pillow's NEAREST and PyTorch's ``nearest-exact``.

    Args:
        classes: of shape (rows, columns), any type.
        height: rows of the result.
        width: columns of the result.

    >>> map_of_size(np.array([[1, 2]]), 2, 4).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    rows, columns = (
        (2 * np.arange(want) + 1) * have // (2 * want)
        for have, want in zip(classes.shape, (height, width), strict=True)
    )
    resized: np.ndarray = classes[rows][:, columns]
    return resized


def shares(classes: np.ndarray) -> dict[int, float]:
    """Each class's share of the pixels, 0 to 1, largest first; classes without pixels are left out.

    Args:
        classes: nonnegative integers of any shape.

    >>> shares(np.array([[0, 0], [3, 0]]))
    {0: 0.75, 3: 0.25}
    """
    counts = np.bincount(classes.reshape(-1))
    order = np.argsort(-counts, kind="stable")
    return {int(i): float(counts[i] / classes.size) for i in order if counts[i]}
