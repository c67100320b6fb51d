"""Prepares images as network inputs: as torchvision's presets do, or with a letterbox."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.imaging.decode import read_image
from trtnet.imaging.placement import placement

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.imaging.preprocessing import Preprocessing

_MODES = {"gray": "L", "rgb": "RGB", "bgr": "RGB"}  # of Pillow
_CUBIC = -0.75  # the coefficient of PyTorch's and OpenCV's bicubic interpolation


def load_image(
    path: str | os.PathLike[str], preprocessing: Mapping[str, Any] | Preprocessing
) -> np.ndarray:
    """Reads the image at `path` and prepares it; see :func:`prepare`.

    Raises:
        UsageError: as :func:`trtnet.imaging.read_image`.
        PlanError: an invalid preprocessing.
    """
    return prepare(read_image(path, image_mode(preprocessing)), preprocessing)


def image_mode(preprocessing: Mapping[str, Any] | Preprocessing) -> str:
    """The mode of images for :func:`prepare`: ``"RGB"``, or ``"L"`` for one channel.

    Raises:
        PlanError: an invalid preprocessing.
    """
    return _MODES[_rules(preprocessing).order]


def prepare(image: Image, preprocessing: Mapping[str, Any] | Preprocessing) -> np.ndarray:
    """`image` as float32 of shape (1, channels, height, width). :func:`trtnet.imaging.placement`
    says where in it the image is.

    Args:
        image: of 8 bits per channel; converted to the mode that :func:`image_mode` returns.
        preprocessing: what is done, see :class:`trtnet.imaging.preprocessing.Preprocessing`.

    Raises:
        PlanError: an invalid preprocessing.
        UsageError: the resized image would have more than ``MAX_PIXELS``.
    """
    rules = _rules(preprocessing)
    mode = image_mode(rules)
    placed = placement(image.size, rules)
    image = image if image.mode == mode else image.convert(mode)
    pads_last = rules.size_divisor > 1 or (rules.letterbox and rules.pad_color == "mean")
    levels = _resized(image, placed.resized, rules)
    if not pads_last and (placed.size != placed.resized or placed.offset != (0, 0)):
        levels = _placed(levels, placed.offset, placed.size, rules)
    levels = np.asarray(levels, np.float32)
    levels = levels.reshape(*levels.shape[:2], -1)
    if rules.order == "bgr":
        levels = levels[:, :, ::-1]
    mean, std = (np.array(values, np.float32) for values in (rules.means, rules.divisors))
    values = levels / np.float32(1 / rules.factor)  # 1/255 is no float; 255 is
    values = (values - mean) / std
    if pads_last:
        (top, left), (height, width) = placed.offset, placed.size
        rows, columns = height - top - values.shape[0], width - left - values.shape[1]
        values = np.pad(values, ((top, rows), (left, columns), (0, 0)))
    prepared: np.ndarray = values.transpose(2, 0, 1)[None].copy()
    return prepared


def _rules(preprocessing: Mapping[str, Any] | Preprocessing) -> Preprocessing:
    from trtnet.imaging.preprocessing import checked_preprocessing  # needs msgspec

    return checked_preprocessing(preprocessing)


def _resized(image: Image, size: tuple[int, int], rules: Preprocessing) -> Any:
    """A picture, or levels that are not rounded."""
    from PIL.Image import Resampling, fromarray

    from trtnet.imaging.preprocessing import FILTERS

    height, width = size
    if rules.antialias or rules.interpolation not in ("bilinear", "bicubic"):
        return image.resize((width, height), Resampling[FILTERS[rules.interpolation]])
    if image.size == (width, height):
        return image
    levels = np.asarray(image, np.float32)
    for axis, edge in enumerate(size):
        ratio = levels.shape[axis] / edge
        at = (np.arange(edge) + 0.5) * (ratio if rules.rounding else np.float32(ratio)) - 0.5
        if not rules.rounding:  # positions are as exact as PyTorch's, which nothing then hides
            at = at.astype(np.float32)
        levels = _interpolated(levels, axis, at, rules.interpolation == "bicubic")
    if not rules.rounding:
        return levels
    return fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _interpolated(levels: np.ndarray, axis: int, at: np.ndarray, cubic: bool) -> np.ndarray:
    """The elements at the positions `at` along `axis`, each of the nearest two, or four."""
    have = levels.shape[axis]
    first = np.floor(at)
    distance = (at - first).astype(np.float32)
    if cubic:
        taps = {step: _cubic_weight(np.abs(distance - step)) for step in (-1, 0, 1, 2)}
    else:
        taps = {0: 1 - distance, 1: distance}
    shape = [-1 if i == axis else 1 for i in range(levels.ndim)]
    total: np.ndarray = np.zeros((), np.float32)
    for step, weights in taps.items():
        rows = np.clip(first.astype(np.int64) + step, 0, have - 1)
        total = total + levels.take(rows, axis) * weights.reshape(shape)
    return total


def _cubic_weight(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel."""
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    weights: np.ndarray = np.where(distance <= 1, near, far)
    return weights


def _placed(
    image: Image, offset: tuple[int, int], size: tuple[int, int], rules: Preprocessing
) -> Image:
    """A picture of `size` with `image` at `offset`; a letterbox's colour, or black, around it."""
    import PIL.Image

    if rules.letterbox is None:  # a crop
        left, top = -offset[1], -offset[0]
        return image.crop((left, top, left + size[1], top + size[0]))
    canvas = PIL.Image.new("RGB", (size[1], size[0]), rules.padding).convert(image.mode)
    canvas.paste(image, (offset[1], offset[0]))
    return canvas
