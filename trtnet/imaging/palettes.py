"""Palettes: a colour for each class."""

from __future__ import annotations

import numpy as np

from trtnet.errors import UsageError
from trtnet.names import did_you_mean

_TUTORIAL = (2**25 - 1, 2**15 - 1, 2**21 - 1)
_BITS = 8


def palette(name: str, count: int) -> np.ndarray:
    """The colours of the classes 0 to `count` - 1 as uint8 array of shape (count, 3), RGB.

    Args:
        name: ``"tutorial"``, of NVIDIA's and PyTorch's segmentation tutorials: class i has
            (i · (2²⁵-1), i · (2¹⁵-1), i · (2²¹-1)) mod 255; or ``"voc"``, of Pascal VOC's
            development kit. Class 0 is black in both.
        count: number of classes.

    Raises:
        UsageError: an unknown palette name.

    >>> palette("voc", 3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    return colors_of(name, np.arange(count))


def colors_of(name: str, classes: np.ndarray) -> np.ndarray:
    """The colours of `classes`, int64 (n,), as :func:`palette` has them: uint8 (n, 3).

    Raises:
        UsageError: an unknown palette name.

    >>> colors_of("voc", np.array([2, 1])).tolist()
    [[0, 128, 0], [128, 0, 0]]
    """
    if name not in PALETTES:
        raise UsageError(
            f"there is no palette {name!r}",
            expected=", ".join(PALETTES),
            got=name,
            fix=did_you_mean(name, PALETTES) or "choose one of these",
        )
    return PALETTES[name](classes).astype(np.uint8)


def _tutorial(classes: np.ndarray) -> np.ndarray:
    colors: np.ndarray = classes[:, None] * np.array(_TUTORIAL) % 255
    return colors


def _voc(classes: np.ndarray) -> np.ndarray:
    """Bits of the class number, from the lowest, go in turn to the red, green and blue value,
    from the highest bit down."""
    colors = np.zeros((len(classes), 3), np.int64)
    for bit in range(_BITS):
        for channel in range(3):
            value = classes >> (3 * bit + channel) & 1
            colors[:, channel] |= value << (_BITS - 1 - bit)
    return colors


PALETTES = {"tutorial": _tutorial, "voc": _voc}
"""By name: functions from int64 class numbers of shape (n,) to colours of shape (n, 3)."""
