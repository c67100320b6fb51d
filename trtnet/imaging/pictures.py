"""Class maps as pictures: as coloured images, or drawn over the image with a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_INDEXED = 256  # largest number of colours of a PNG with a palette
_TEXT, _PAPER = (32, 32, 32), (255, 255, 255)


def color_map(classes: np.ndarray, colors: np.ndarray) -> Image:
    """The class map as a coloured image of mode P, whose pixel values are the class numbers; of
    mode RGB for more than 256 classes.

    Args:
        classes: integers of shape (height, width).
        colors: uint8 of shape (number of classes, 3).
    """
    import PIL.Image

    if len(colors) > _INDEXED:
        return PIL.Image.fromarray(colors[classes])
    image = PIL.Image.fromarray(classes.astype(np.uint8))
    image.putpalette(colors.tobytes())
    return image


def overlay(
    image: Image, classes: np.ndarray, colors: np.ndarray, names: Mapping[int, str]
) -> Image:
    """Draws the class map over a grey copy of `image`, half transparent, above a legend.

    Args:
        image: of any mode.
        classes: integers of shape (image.height, image.width).
        colors: uint8 of shape (number of classes, 3).
        names: names for the legend, by class number.
    """
    import PIL.Image

    grey = image.convert("L").convert("RGB")
    mixed = PIL.Image.blend(grey, PIL.Image.fromarray(colors[classes]), 0.5)
    return with_legend(mixed, [(name, tuple(colors[i])) for i, name in names.items()])


def with_legend(image: Image, entries: Sequence[tuple[str, tuple[int, ...]]]) -> Image:
    """A picture of `image` with a legend below.

    Args:
        image: of mode RGB.
        entries: name and RGB colour of each entry, set in rows as wide as the image, or as the
            widest entry.
    """
    import PIL.Image
    from PIL import ImageDraw, ImageFont

    size = max(12, min(image.size) // 32)
    font = ImageFont.load_default(size)
    widths = [2 * size + int(font.getlength(name)) + size for name, _ in entries]
    places, width, rows = _flow(widths, max(image.width, *widths, 1))
    picture = PIL.Image.new("RGB", (width, image.height + 2 * size * rows), _PAPER)
    picture.paste(image, (0, 0))
    draw = ImageDraw.Draw(picture)
    for (name, color), (left, row) in zip(entries, places, strict=True):
        x, y = left + size // 2, image.height + 2 * size * row + size // 2
        draw.rectangle((x, y, x + size, y + size), fill=color)
        draw.text((x + size + size // 2, y + size // 2), name, fill=_TEXT, font=font, anchor="lm")
    return picture


def _flow(widths: list[int], width: int) -> tuple[list[tuple[int, int]], int, int]:
    """Breaks boxes into rows like words: (left, row) of each, the width, the number of rows."""
    places, left, row = [], 0, 0
    for box in widths:
        if left and left + box > width:
            left, row = 0, row + 1
        places.append((left, row))
        left += box
    return places, width, row + 1 if widths else 0
