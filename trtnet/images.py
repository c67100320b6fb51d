"""Images as a network's input, prepared as torchvision's presets do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import PlanError, UsageError

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


def load_image(path: Path, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """The image at `path` as float32 values of shape (1, channels, height, width).

    Args:
        preprocessing: what a weights file or a sidecar says: ``resize_size`` (of the shorter
            edge, or height and width), ``crop_size``, ``mean``, ``std``, ``interpolation``; each
            may be missing.

    Raises:
        UsageError: no image can be read there, or Pillow is not installed.
        PlanError: a preprocessing that cannot be followed.
    """
    try:
        mean = np.array(preprocessing.get("mean", [0.0] * 3), np.float32)
        std = np.array(preprocessing.get("std", [1.0] * len(mean)), np.float32)
        image = _open(path, _MODES[len(mean)])
        image = _resized(image, preprocessing)
        if preprocessing.get("crop_size"):
            image = _cropped(image, *_pair(preprocessing["crop_size"]))
        values = np.asarray(image, np.float32).reshape(image.height, image.width, -1) / 255
        return ((values - mean) / std).transpose(2, 0, 1)[None].copy()
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(
            "the preprocessing cannot be followed",
            expected="resize_size, crop_size, mean, std, interpolation",
            got=dict(preprocessing),
            fix="prepare the image yourself and give it as .npy",
        ) from error


def _open(path: Path, mode: str) -> Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            "reading images needs Pillow", got=error, fix="pip install pillow, or give .npy files"
        ) from error
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except OSError as error:  # what Pillow raises for a file that is no image, too
        raise UsageError(
            f"{path} cannot be read as an image", got=error, fix="give an image, .npy or .npz"
        ) from error


def _resized(image: Image, preprocessing: Mapping[str, Any]) -> Image:
    size = preprocessing.get("resize_size")
    if not size:
        return image
    from PIL.Image import Resampling

    kind = Resampling[_FILTERS[preprocessing.get("interpolation", "bilinear")]]
    if len(size) == 2:
        height, width = size
    else:
        shorter = min(image.size)
        width, height = (int(size[0] * edge / shorter) for edge in image.size)
    return image.resize((width, height), kind)


def _cropped(image: Image, height: int, width: int) -> Image:
    """The middle; what lies outside of the image is black."""
    top, left = _offset(image.height, height), _offset(image.width, width)
    return image.crop((left, top, left + width, top + height))


def _offset(have: int, want: int) -> int:
    """Where torchvision's centre crop begins; it rounds differently when it has to pad."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)


def _pair(size: Any) -> tuple[int, int]:
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])
