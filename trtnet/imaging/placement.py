"""Where an image is in the input that is made of it, to map points and boxes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.imaging.decode import MAX_PIXELS

if TYPE_CHECKING:
    from trtnet.imaging.preprocessing import Preprocessing


@dataclass(frozen=True)
class Placement:
    """Where an image is in the input that :func:`trtnet.imaging.prepare` makes of it. All sizes are
    (height, width) in pixels.

    Attributes:
        original: the size of the image.
        resized: the size that the image is resized to.
        offset: (top, left) of the resized image in the input; negative where it is cropped.
        size: the size of the input.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input for each pixel of the image: (down, across)."""
        return self.resized[0] / self.original[0], self.resized[1] / self.original[1]

    def to_input(self, points: Any) -> np.ndarray:
        """Points of the image in the input.

        Args:
            points: (x, y) in the last axis, or boxes (x, y, x, y); (0, 0) is the upper left corner
                of the first pixel, whose centre is (0.5, 0.5).

        Returns:
            float64 of the same shape.
        """
        points, scale, offset = self._operands(points)
        return np.asarray(points * scale + offset)

    def to_image(self, points: Any) -> np.ndarray:
        """Points of the input in the image: the inverse of :meth:`to_input`. Points outside of the
        image, such as those of a letterbox's border, stay outside."""
        points, scale, offset = self._operands(points)
        return np.asarray((points - offset) / scale)

    def _operands(self, points: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points = np.asarray(points, np.float64)
        last = points.shape[-1] if points.ndim else 0
        if last not in (2, 4):
            raise UsageError(
                "these are no points",
                expected="(x, y) or (x, y, x, y) in the last axis",
                got=f"shape {points.shape}",
            )
        return points, np.tile(self.scale[::-1], last // 2), np.tile(self.offset[::-1], last // 2)


def placement(size: tuple[int, int], preprocessing: Mapping[str, Any] | Preprocessing) -> Placement:
    """Where an image of `size`, which is (width, height), is in the input that is made of it.

    Raises:
        PlanError: an invalid preprocessing.
        UsageError: the resized image would have more than ``MAX_PIXELS``.

    >>> placed = placement((1280, 720), {"letterbox_size": 640})
    >>> placed.resized, placed.offset
    ((360, 640), (140, 0))
    >>> placed.to_image([0, 140, 640, 500]).tolist()
    [0.0, 0.0, 1280.0, 720.0]
    """
    from trtnet.imaging.preprocessing import checked_preprocessing  # needs msgspec

    rules = checked_preprocessing(preprocessing)
    original = (size[1], size[0])
    if rules.letterbox is not None:
        resized = _inside(original, rules.letterbox, rules.upscale)
        spare = [box - edge for box, edge in zip(rules.letterbox, resized, strict=True)]
        middle = rules.pad_position == "center"
        top, left = (edge // 2 if middle else 0 for edge in spare)
        return Placement(original, resized, (top, left), rules.letterbox)
    resized = _resized(original, rules)
    if rules.crop is None:
        step = rules.size_divisor
        height, width = (-(-edge // step) * step for edge in resized)
        return Placement(original, resized, (0, 0), (height, width))
    top, left = (-_cut(have, want) for have, want in zip(resized, rules.crop, strict=True))
    return Placement(original, resized, (top, left), rules.crop)


def prepared_size(
    size: tuple[int, int], preprocessing: Mapping[str, Any] | Preprocessing
) -> tuple[int, int]:
    """(height, width) of the prepared image, for an image of `size`, which is (width, height).

    Raises:
        PlanError, UsageError: as :func:`placement`.

    >>> prepared_size((1282, 1026), {"resize_size": [520]})
    (520, 649)
    """
    return placement(size, preprocessing).size


def _resized(original: tuple[int, int], rules: Preprocessing) -> tuple[int, int]:
    """(height, width) after the resize."""
    edges = rules.resize_edges
    if not edges:
        return original
    height, width = original
    if rules.max_size is not None:
        resized = _at_most(original, edges[0], rules.max_size)
    elif len(edges) == 2 and rules.resize_mode == "stretch":
        resized = (edges[0], edges[1])
    elif edges[0] * width >= edges[-1] * height:  # covered as soon as the height is
        resized = (edges[0], max(edges[-1], edges[0] * width // height))
    else:
        resized = (max(edges[0], edges[-1] * height // width), edges[-1])
    if resized[0] * resized[1] > MAX_PIXELS:
        raise UsageError(
            "the image would become too large",
            expected=f"at most {MAX_PIXELS // 1_000_000} megapixels",
            got=f"{width} x {height}, resized to {resized[1]} x {resized[0]}",
            fix="choose a smaller size, or cut the image into pieces that are less narrow",
        )
    return resized


def _at_most(original: tuple[int, int], shorter: int, longer: int) -> tuple[int, int]:
    """(height, width) of torchvision's detectors; the products are rounded down as there."""
    ratio = min(shorter / min(original), longer / max(original))
    height, width = (max(1, math.floor(edge * ratio)) for edge in original)
    return height, width


def _inside(original: tuple[int, int], box: tuple[int, int], upscale: bool) -> tuple[int, int]:
    """The largest (height, width) in the proportions of `original` that `box` has room for."""
    ratio = min(box[0] / original[0], box[1] / original[1])
    ratio = ratio if upscale else min(ratio, 1.0)
    height, width = (
        min(max(round(edge * ratio), 1), most) for edge, most in zip(original, box, strict=True)
    )
    return height, width


def _cut(have: int, want: int) -> int:
    """The first row or column of torchvision's centre crop, which rounds differently if it pads."""
    return round((have - want) / 2) if have >= want else -((want - have) // 2)
