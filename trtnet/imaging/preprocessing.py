"""What weights files and sidecars say about preparing images, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trtnet.errors import PlanError
from trtnet.imaging.decode import MAX_PIXELS
from trtnet.reading.documents import Source
from trtnet.reading.schema import checked

Edge = Annotated[int, Meta(ge=1, le=MAX_PIXELS)]
Edges = Annotated[tuple[Edge, ...], Meta(max_length=2)]
Value = Annotated[float, Meta(ge=-1e6, le=1e6)]
Divisor = Annotated[float, Meta(ge=1e-6, le=1e6)]
FILTERS = {  # Pillow's names by torchvision's
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "box": "BOX",
    "hamming": "HAMMING",
    "lanczos": "LANCZOS",
}


class Preprocessing(msgspec.Struct, frozen=True):
    """How an image becomes the input of a network; unknown entries, such as torchvision's
    ``antialias``, are ignored.

    Attributes:
        resize_size: the shorter edge, or height and width; empty or ``None`` for no change.
        crop_size: one edge of a square, or height and width; empty or ``None`` for no crop.
        mean, std: per channel, of one or three; without a `std` of ones.
        interpolation: of the resize, by torchvision's name.
    """

    resize_size: Edges | None = None
    crop_size: Edges | None = None
    mean: tuple[Value, ...] = (0.0, 0.0, 0.0)
    std: tuple[Divisor, ...] | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in FILTERS:
            raise ValueError(f"interpolation is one of {', '.join(FILTERS)}")
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.divisors):
            raise ValueError("mean and std have one value for each of 1 or 3 channels")
        if self.crop is not None and self.crop[0] * self.crop[1] > MAX_PIXELS:
            raise ValueError(f"the crop has more than {MAX_PIXELS // 1_000_000} megapixels")

    @property
    def divisors(self) -> tuple[float, ...]:
        """The `std` of each channel."""
        return (1.0,) * len(self.mean) if self.std is None else self.std

    @property
    def crop(self) -> tuple[int, int] | None:
        """(height, width) of the crop; ``None`` for no crop."""
        size = self.crop_size
        return (size[0], size[-1]) if size else None


def checked_preprocessing(stated: Mapping[str, Any]) -> Preprocessing:
    """`stated`, an entry of a weights file or a sidecar.

    Raises:
        PlanError: says which entry cannot be followed.
    """
    fix = "prepare the image yourself and give it as .npy"
    source = Source("", "the preprocessing", PlanError, fix)
    return checked(dict(stated), Preprocessing, source)
