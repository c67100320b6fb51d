"""Class maps: arrays with a class number for each pixel."""

from __future__ import annotations

import numpy as np

from trtnet.imaging.placement import Placement


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
    size = (height, width)
    return map_of_image(classes, Placement(size, size, (0, 0), size))


def map_of_image(classes: np.ndarray, placed: Placement) -> np.ndarray:
    """The class map of an image: each of its pixels gets the class of the nearest pixel.

    Args:
        classes: of the input that the image is in, of its size or of a fraction of it.
        placed: where in the input the image is; a border is left out.

    Returns:
        of shape (height, width) of the image.

    >>> letterbox = Placement((1, 4), (1, 4), (1, 0), (3, 4))
    >>> map_of_image(np.array([[0] * 4, [1, 2, 3, 4], [0] * 4]), letterbox).tolist()
    [[1, 2, 3, 4]]
    """
    sides = zip(classes.shape, placed.original, placed.resized, placed.offset, placed.size,
                strict=True)  # fmt: skip
    rows, columns = (
        np.clip(((2 * np.arange(want) + 1) * resized + 2 * offset * want) * have
                // (2 * want * size), 0, have - 1)
        for have, want, resized, offset, size in sides
    )  # fmt: skip
    found: np.ndarray = classes[rows][:, columns]
    return found


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
