"""Pictures of what was detected: boxes, names, masks and keypoints over the image."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trtnet.errors import ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

Color = tuple[int, int, int]
Spot = tuple[int, int, int, int]

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_LUMA = (0.299, 0.587, 0.114)
_LINE = 250  # edges of the image for a line as wide as a pixel
_TEXT, _SMALLEST_TEXT = 32, 10
_DASH = 6  # widths of the line
_LIMBS = {  # pairs of keypoints that a line joins, by the number of keypoints: 17 of COCO's persons
    17: (
        *((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11)),
        *((6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
    )
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """One thing to draw.

    Attributes:
        box: corners (x1, y1, x2, y2) in pixels of the image.
        label: of one line; empty for none.
        color: RGB.
        mask: bool (height, width) of the image, drawn half transparent.
        keypoints: (number, 2): x and y in pixels of the image, NaN of one that is not drawn, as
            are those that lie outside of the image by more than its size. 17 are drawn as a person
            of COCO.
        dashed: whether the line of the box has gaps, which show the line of another box below, or
            else are black or white.
    """

    box: tuple[float, float, float, float]
    label: str
    color: Color
    mask: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    dashed: bool = False


def draw_found(image: Image, found: Iterable[Drawn]) -> Image:
    """An RGB copy of `image` with all of `found`, the first on top.

    Lines and dots have an edge that is white for dark colours and black for light ones, so that
    they show on any image; their width and the size of the text follow from the image's size. A
    label stands above its box, or where there is no room or another label, in or below it, at its
    left or right end. It is shortened where the image is narrower, and left out where all these
    places are taken by labels of what comes before, or the image is lower than its text.

    >>> from PIL import Image
    >>> picture = draw_found(Image.new("L", (9, 9)), [Drawn((2, 2, 7, 7), "cat", (255, 0, 0))])
    >>> picture.getpixel((2, 4)), picture.getpixel((4, 4))
    ((255, 0, 0), (0, 0, 0))

    Raises:
        ShapeError: a mask of another size than the image.
    """
    from PIL import ImageDraw

    picture, kept = image.convert("RGB"), []
    picture = picture.copy() if picture is image else picture
    for each in found:  # one mask after another: each is as large as the image
        if each.mask is not None:
            picture = _masked(picture, each.mask, each.color)
        kept.append(dataclasses.replace(each, mask=None))
    pen = _Pen(ImageDraw.Draw(picture), picture.size)
    for each in (each for each in kept if each.dashed):  # what is in the gaps, where nothing is
        pen.rectangle(each.box, edge_color(each.color))
    for each in reversed(kept):
        (pen.dashes if each.dashed else pen.rectangle)(each.box, each.color)
        if each.keypoints is not None:
            pen.keypoints(each.keypoints, each.color)
    places = [pen.place(each.box, each.label) for each in kept]
    for each, place in reversed([*zip(kept, places, strict=True)]):
        if place is not None:
            pen.label(place, each.label, each.color)
    return picture


def edge_color(color: Sequence[int]) -> Color:
    """Black for a light colour, white for a dark one.

    >>> edge_color((255, 255, 0)), edge_color((128, 0, 0))
    ((0, 0, 0), (255, 255, 255))
    """
    light = sum(part * value for part, value in zip(_LUMA, color, strict=True))
    return _BLACK if light > 127 else _WHITE


def _masked(picture: Image, mask: np.ndarray, color: Color) -> Image:
    import PIL.Image

    if mask.shape != picture.size[::-1]:
        raise ShapeError("a mask has not the size of the image", got=f"shape {mask.shape}",
                         expected=f"(height, width) {picture.size[::-1]}")  # fmt: skip
    veil = PIL.Image.new("RGB", picture.size, color)
    half = PIL.Image.fromarray(np.where(mask, np.uint8(128), np.uint8(0)))
    return PIL.Image.composite(veil, picture, half)


class _Pen:
    """Draws on an image of `size`, (width, height), with lines and text that fit it."""

    def __init__(self, draw: ImageDraw, size: tuple[int, int]) -> None:
        from PIL import ImageFont

        self.draw, self.size = draw, size
        self.line = max(1, round(min(size) / _LINE))
        self.edge = max(1, self.line // 2)
        self.text = max(_SMALLEST_TEXT, min(size) // _TEXT)
        self.pad = self.text // 4
        self.font: FreeTypeFont | BitmapFont = ImageFont.load_default(self.text)
        self.taken: list[Spot] = []

    def rectangle(self, box: Sequence[float], color: Color) -> None:
        """The pixels at the border of `box`, which has part of each of them."""
        left, top, right, bottom = _pixels(box)
        around = (left - self.edge, top - self.edge, right + self.edge, bottom + self.edge)
        self.draw.rectangle(around, outline=edge_color(color), width=self.line + 2 * self.edge)
        self.draw.rectangle((left, top, right, bottom), outline=color, width=self.line)

    def dashes(self, box: Sequence[float], color: Color) -> None:
        """Along the border of `box`, from its upper left corner on, without an edge."""
        left, top, right, bottom = _pixels(box)
        line, dash = self.line, _DASH * self.line
        for x in range(left, right + 1, 2 * dash):
            for y in (top, bottom - line + 1):
                self.draw.rectangle((x, y, min(x + dash - 1, right), y + line - 1), fill=color)
        for y in range(top, bottom + 1, 2 * dash):
            for x in (left, right - line + 1):
                self.draw.rectangle((x, y, x + line - 1, min(y + dash - 1, bottom)), fill=color)

    def keypoints(self, points: np.ndarray, color: Color) -> None:
        """Dots, and lines between them where it is known which belong together."""
        size = np.array(self.size)
        is_near = (points[:, :2] >= -size) & (points[:, :2] <= 2 * size)  # false of NaN
        at = {
            int(number): (float(points[number, 0]), float(points[number, 1]))
            for number in np.flatnonzero(is_near.all(1))
        }
        limbs = [pair for pair in _LIMBS.get(len(points), ()) if at.keys() >= {*pair}]
        for width, shade in ((self.line + 2 * self.edge, edge_color(color)), (self.line, color)):
            for one, other in limbs:
                self.draw.line((at[one], at[other]), fill=shade, width=width)
        radius = 2 * self.line
        for x, y in at.values():
            box = (x - radius, y - radius, x + radius, y + radius)
            self.draw.ellipse(box, fill=color, outline=edge_color(color), width=self.edge)

    def place(self, box: Sequence[float], label: str) -> Spot | None:
        """Where the label of `box` goes, over no other one; ``None`` where it has no room."""
        height = self.text + 2 * self.pad
        width = int(self.font.getlength(self._shortened(label))) + 2 * self.pad
        if not label or height > self.size[1] or width > self.size[0]:
            return None
        right, bottom = self.size[0] - width, self.size[1] - height  # of the image, for its corner
        inside = min(max(box[1], 0), bottom)
        tops = (box[1] - height, inside, box[3], box[3] - height)
        for left, top in itertools.product((box[0], box[2] - width), tops):
            x, y = min(max(int(left), 0), right), int(top)
            spot = (x, y, x + width, y + height)
            if 0 <= y <= bottom and not any(_overlap(spot, other) for other in self.taken):
                self.taken.append(spot)
                return spot
        return None

    def label(self, place: Spot, label: str, color: Color) -> None:
        """`label` at its place."""
        left, top, right, bottom = place
        shade = edge_color(color)
        self.draw.rectangle((left, top, right - 1, bottom - 1), fill=color, outline=shade)
        middle = (left + self.pad, (top + bottom) / 2)
        self.draw.text(middle, self._shortened(label), fill=shade, font=self.font, anchor="lm")

    def _shortened(self, label: str) -> str:
        """As much of `label` as the image is wide."""
        room = self.size[0] - 2 * self.pad
        if self.font.getlength(label) <= room:
            return label
        count = min(len(label), self.size[0])
        while count and self.font.getlength(f"{label[:count]}…") > room:
            count -= 1
        return f"{label[:count]}…"


def _pixels(box: Sequence[float]) -> Spot:
    """The first and last columns and rows that `box` has part of."""
    left, top = (int(np.floor(corner)) for corner in box[:2])
    right, bottom = (
        max(int(np.ceil(corner)) - 1, low) for corner, low in zip(box[2:], (left, top), strict=True)
    )
    return left, top, right, bottom


def _overlap(one: Spot, other: Spot) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
