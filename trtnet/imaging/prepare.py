"""Prepares images as network inputs, as torchvision's presets do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import PlanError, UsageError
from trtnet.imaging.decode import MAX_PIXELS, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

_MODES = {1: "L", 3: "RGB"}  # by the number of channels
_FILTERS = {  # Pillow's names by torchvision's
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "box": "BOX",
    "hamming": "HAMMING",
    "lanczos": "LANCZOS",
}


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
        PlanError: a preprocessing for another number of channels.
    """
    with _checked(preprocessing):
        return _MODES[len(_mean(preprocessing))]


def prepare(image: Image, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Resizes, crops and normalises `image` to float32 of shape (1, channels, height, width).

    Args:
        image: of the mode that :func:`image_mode` returns.
        preprocessing: the entry of a weights file or a sidecar, with the optional keys
            ``resize_size`` (the shorter edge, or height and width), ``crop_size``, ``mean``,
            ``std`` and ``interpolation``.

    Raises:
        PlanError: an invalid preprocessing.
        UsageError: the resized image would have more than ``MAX_PIXELS``.
    """
    with _checked(preprocessing):
        mean = _mean(preprocessing)
        std = np.array(preprocessing.get("std", [1.0] * len(mean)), np.float32)
        image = _resized(image, preprocessing)
        if preprocessing.get("crop_size"):
            image = _cropped(image, *_pair(preprocessing["crop_size"]))
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
    with _checked(preprocessing):
        if preprocessing.get("crop_size"):
            return _pair(preprocessing["crop_size"])
        return _resize_to(size, preprocessing)


@contextlib.contextmanager
def _checked(preprocessing: Mapping[str, Any]) -> Iterator[None]:
    """Turns errors in `preprocessing` into a PlanError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(
            "the preprocessing cannot be followed",
            expected="resize_size, crop_size, mean, std, interpolation",
            got=dict(preprocessing),
            fix="prepare the image yourself and give it as .npy",
        ) from error


def _mean(preprocessing: Mapping[str, Any]) -> np.ndarray:
    return np.array(preprocessing.get("mean", [0.0] * 3), np.float32)


def _resized(image: Image, preprocessing: Mapping[str, Any]) -> Image:
    from PIL.Image import Resampling

    kind = Resampling[_FILTERS[preprocessing.get("interpolation", "bilinear")]]
    height, width = _resize_to(image.size, preprocessing)
    return image.resize((width, height), kind)


def _resize_to(size: tuple[int, int], preprocessing: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) after the resize; `size` is (width, height)."""
    asked = preprocessing.get("resize_size")
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


def _pair(size: Any) -> tuple[int, int]:
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])
