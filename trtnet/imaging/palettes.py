"""A colour for each class."""

from __future__ import annotations

import numpy as np

from trtnet.errors import UsageError

_TUTORIAL = (2**25 - 1, 2**15 - 1, 2**21 - 1)
_BITS = 8


def palette(name: str, count: int) -> np.ndarray:
    """The colours of the classes 0 to `count` - 1 as uint8 values of shape (count, 3), RGB.

    Args:
        name: ``"tutorial"``, of NVIDIA's and PyTorch's segmentation tutorials: class i has
            (i · (2²⁵-1), i · (2¹⁵-1), i · (2²¹-1)) mod 255; or ``"voc"``, of Pascal VOC's
            development kit. Class 0 is black in both.

    Raises:
        UsageError: there is no such palette.

    >>> palette("voc", 3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    if name not in PALETTES:
        raise UsageError(f"there is no palette {name!r}", expected=", ".join(PALETTES))
    return PALETTES[name](np.arange(count)).astype(np.uint8)


def _tutorial(classes: np.ndarray) -> np.ndarray:
    return classes[:, None] * np.array(_TUTORIAL) % 255


def _voc(classes: np.ndarray) -> np.ndarray:
    """The bits of a class's number in turn go to red, green and blue, the highest bit first."""
    colors = np.zeros((len(classes), 3), np.int64)
    for bit in range(_BITS):
        for channel in range(3):
            value = classes >> (3 * bit + channel) & 1
            colors[:, channel] |= value << (_BITS - 1 - bit)
    return colors


PALETTES = {"tutorial": _tutorial, "voc": _voc}
