"""Prepares images as network inputs, as torchvision's presets do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.imaging.decode import MAX_PIXELS, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.imaging.preprocessing import Preprocessing

_MODES = {1: "L", 3: "RGB"}  # by the number of channels


def load_image(path: str | os.PathLike[str], preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Reads the image at `path` and prepares it; see :func:`prepare`.

    Raises:
        UsageError: as :func:`trtnet.imaging.read_image`.
        PlanError: an invalid preprocessing.
    """
    return prepare(read_image(path, image_mode(preprocessing)), preprocessing)


def image_mode(preprocessing: Mapping[str, Any]) -> str:
    """The mode of images for :func:`prepare`: ``"RGB"``, or ``"L"`` for one channel.

    Raises:
        PlanError: an invalid preprocessing.
    """
    return _MODES[len(_rules(preprocessing).mean)]


def prepare(image: Image, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Resizes, crops and normalises `image` to float32 of shape (1, channels, height, width).

    Args:
        image: of the mode that :func:`image_mode` returns.
        preprocessing: the entry of a weights file or a sidecar, with the optional keys
            ``resize_size`` (the shorter edge, or height and width), ``crop_size``, ``mean``,
            ``std`` and ``interpolation``; see :class:`trtnet.imaging.preprocessing.Preprocessing`.

    Raises:
        PlanError: an invalid preprocessing.
        UsageError: the resized image would have more than ``MAX_PIXELS``.
    """
    rules = _rules(preprocessing)
    mean, std = (np.array(values, np.float32) for values in (rules.mean, rules.divisors))
    image = _resized(image, rules)
    if rules.crop is not None:
        image = _cropped(image, *rules.crop)
    values = np.asarray(image, np.float32).reshape(image.height, image.width, -1) / 255
    prepared: np.ndarray = ((values - mean) / std).transpose(2, 0, 1)[None].copy()
    return prepared


def prepared_size(size: tuple[int, int], preprocessing: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the prepared image, for an image of `size`, which is (width, height).

    Raises:
        PlanError: an invalid preprocessing.
        UsageError: the resized image would have more than ``MAX_PIXELS``.

    >>> prepared_size((1282, 1026), {"resize_size": [520]})
    (520, 649)
    """
    rules = _rules(preprocessing)
    return rules.crop or _resize_to(size, rules)


def _rules(preprocessing: Mapping[str, Any]) -> Preprocessing:
    from trtnet.imaging.preprocessing import checked_preprocessing  # needs msgspec

    return checked_preprocessing(preprocessing)


def _resized(image: Image, rules: Preprocessing) -> Image:
    from PIL.Image import Resampling

    from trtnet.imaging.preprocessing import FILTERS

    height, width = _resize_to(image.size, rules)
    return image.resize((width, height), Resampling[FILTERS[rules.interpolation]])


def _resize_to(size: tuple[int, int], rules: Preprocessing) -> tuple[int, int]:
    """(height, width) after the resize; `size` is (width, height)."""
    asked = rules.resize_size
    if not asked:
        return size[1], size[0]
    if len(asked) == 2:
        width, height = asked[1], asked[0]
    else:
        width, height = (int(asked[0] * edge / min(size)) for edge in size)
    if height * width > MAX_PIXELS:
        raise UsageError(
            "the image would become too large",
            expected=f"at most {MAX_PIXELS // 1_000_000} megapixels",
            got=f"{size[0]} x {size[1]}, resized to {width} x {height}",
            fix="choose a smaller size, or cut the image into pieces that are less narrow",
        )
    return height, width


def _cropped(image: Image, height: int, width: int) -> Image:
    """The centre of `image`; pixels outside of it are black."""
    top, left = _offset(image.height, height), _offset(image.width, width)
    return image.crop((left, top, left + width, top + height))


def _offset(have: int, want: int) -> int:
    """The first row or column of torchvision's centre crop, which rounds differently if it pads."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)
