"""Images as a network's input, prepared as torchvision's presets do it."""

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
_FILTERS = {  # by torchvision's name
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "box": "BOX",
    "hamming": "HAMMING",
    "lanczos": "LANCZOS",
}


def load_image(path: str | os.PathLike[str], preprocessing: Mapping[str, Any]) -> np.ndarray:
    """The image at `path` as :func:`prepare` gives it.

    Raises:
        UsageError: as :func:`trtnet.imaging.read_image`.
        PlanError: a preprocessing that cannot be followed.
    """
    return prepare(read_image(path, image_mode(preprocessing)), preprocessing)


def image_mode(preprocessing: Mapping[str, Any]) -> str:
    """``"RGB"``, or ``"L"`` for a network of one channel: what :func:`prepare` takes.

    Raises:
        PlanError: a preprocessing for another number of channels.
    """
    with _followed(preprocessing):
        return _MODES[len(_mean(preprocessing))]


def prepare(image: Image, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """`image` as float32 values of shape (1, channels, height, width).

    Args:
        image: of the mode that :func:`image_mode` tells.
        preprocessing: what a weights file or a sidecar says: ``resize_size`` (of the shorter
            edge, or height and width), ``crop_size``, ``mean``, ``std``, ``interpolation``; each
            may be missing.

    Raises:
        PlanError: a preprocessing that cannot be followed.
        UsageError: the image would grow beyond all measure.
    """
    with _followed(preprocessing):
        mean = _mean(preprocessing)
        std = np.array(preprocessing.get("std", [1.0] * len(mean)), np.float32)
        image = _resized(image, preprocessing)
        if preprocessing.get("crop_size"):
            image = _cropped(image, *_pair(preprocessing["crop_size"]))
        values = np.asarray(image, np.float32).reshape(image.height, image.width, -1) / 255
        return ((values - mean) / std).transpose(2, 0, 1)[None].copy()


def prepared_size(size: tuple[int, int], preprocessing: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of what becomes of an image of `size`, which is (width, height).

    Raises:
        PlanError: a preprocessing that cannot be followed.
        UsageError: the image would grow beyond all measure.

    >>> prepared_size((1282, 1026), {"resize_size": [520]})
    (520, 649)
    """
    with _followed(preprocessing):
        if preprocessing.get("crop_size"):
            return _pair(preprocessing["crop_size"])
        return _resize_to(size, preprocessing)


@contextlib.contextmanager
def _followed(preprocessing: Mapping[str, Any]) -> Iterator[None]:
    """What is wrong with `preprocessing` comes out as a PlanError."""
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
    """The height and width that ``resize_size`` means."""
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
            fix="choose another size, or cut the image into pieces that are less narrow",
        )
    return height, width


def _cropped(image: Image, height: int, width: int) -> Image:
    """The middle; what lies outside of the image is black."""
    top, left = _offset(image.height, height), _offset(image.width, width)
    return image.crop((left, top, left + width, top + height))


def _offset(have: int, want: int) -> int:
    """Where torchvision's centre crop begins; it rounds differently when it has to pad."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)


def _pair(size: Any) -> tuple[int, int]:
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])
