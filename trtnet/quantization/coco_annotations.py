"""The schema of boxes in COCO's format; entries that are not named here are left alone."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Number = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Edge = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class CocoImage(msgspec.Struct, frozen=True):
    """An image, whose `file_name` is relative to the folder of the annotations."""

    id: Number
    file_name: str
    width: Edge
    height: Edge


class CocoBox(msgspec.Struct, frozen=True):
    """An object; `bbox` is left, top, width and height in pixels of the image."""

    image_id: Number
    category_id: Number
    bbox: tuple[float, float, float, float]
    iscrowd: Literal[0, 1] = 0


class CocoAnnotations(msgspec.Struct, frozen=True):
    """The document."""

    images: tuple[CocoImage, ...]
    annotations: tuple[CocoBox, ...]
