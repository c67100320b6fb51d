"""How an image becomes the input of a network: the one schema, as weights files, sidecars, reports
and ``[preprocess]`` tables of TOML files have it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from trtnet.errors import PlanError, TrtnetError
from trtnet.imaging.decode import MAX_PIXELS
from trtnet.imaging.foreign_keys import ELSEWHERE
from trtnet.names import did_you_mean
from trtnet.reading.documents import Source, shortened
from trtnet.reading.schema import checked

Edge = Annotated[int, Meta(ge=1, le=MAX_PIXELS)]
Edges = Annotated[tuple[Edge, ...], Meta(max_length=2)] | Edge
Value = Annotated[float, Meta(ge=-1e6, le=1e6)]
Divisor = Annotated[float, Meta(ge=1e-6, le=1e6)]
Quotient = Annotated[str, Meta(pattern=r"^\d{1,9}(\.\d{1,9})?/\d{1,9}(\.\d{1,9})?$")]
Level = Annotated[int, Meta(ge=0, le=255)]
Multiple = Annotated[int, Meta(ge=1, le=4096)]

FILTERS = {  # Pillow's names by torchvision's
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "box": "BOX",
    "hamming": "HAMMING",
    "lanczos": "LANCZOS",
}
PLAIN_FILTERS = ("nearest", "nearest-exact", "bilinear", "bicubic")
"""Interpolations that exist without antialiasing."""

_OF_A_LETTERBOX = ("pad_color", "pad_position", "upscale")
_COUNTS = {"rgb": 3, "bgr": 3, "gray": 1}
_BYTE = 255.0
_SMALLEST, _LARGEST = 1e-9, 1e6  # scale


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes the input of a network, in this order: resize or letterbox, crop,
    channels, scale, mean and std, padding to a multiple. Images are 8 bits per channel.

    Attributes:
        resize_size: the shorter edge after the resize, or [height, width]; empty or ``None`` for
            no resize.
        resize_mode: of a `resize_size` of two: ``"stretch"`` to exactly this size, or ``"cover"``:
            the image keeps its proportions and is at least this high and wide.
        max_size: of a `resize_size` of one: the longer edge is at most this, and the shorter one
            then less than `resize_size`. Edges are rounded down, as torchvision's detectors do.
        letterbox_size: [height, width] of the input, or the edge of a square. The image keeps its
            proportions and is made as large as fits; the rest is `pad_color`.
        pad_color: of a letterbox: a level from 0 to 255, or red, green and blue; or ``"mean"``: 0
            after `mean` and `std`.
        pad_position: where a letterbox puts the image: ``"center"`` or ``"top-left"``.
        upscale: whether a letterbox enlarges images that are smaller than it.
        crop_size: the edge of a square, or [height, width]: the centre of the image, black outside
            of it; empty or ``None`` for no crop.
        channels: ``"rgb"``, ``"bgr"`` or ``"gray"``; ``None`` for gray where `mean` or `std` is a
            list of one value, and rgb otherwise.
        scale: what levels from 0 to 255 are multiplied by: a number, or a text such as
            ``"1/255"``.
        mean, std: what is subtracted from scaled values, and what they are then divided by: a
            number, or a list with one for each channel, in the order of `channels`.
        interpolation: of the resize, by torchvision's name.
        antialias: whether a smaller image averages all pixels of the larger one, as Pillow does, or
            takes the nearest two or four, as OpenCV does. torchvision's former ``"warn"`` is true.
        rounding: whether resized levels are whole numbers again. Without antialiasing they may stay
            as they are, which is how torchvision's detectors resize.
        size_divisor: the input is padded at the right and at the bottom to a multiple of this, with
            0 after `mean` and `std`.
    """

    resize_size: Edges | None = None
    resize_mode: Literal["stretch", "cover"] = "stretch"
    letterbox_size: Edges | None = None
    pad_color: (
        Level | Annotated[tuple[Level, ...], Meta(min_length=1, max_length=3)] | Literal["mean"]
    ) = 114
    pad_position: Literal["center", "top-left"] = "center"
    upscale: bool = True
    crop_size: Edges | None = None
    channels: Literal["rgb", "bgr", "gray"] | None = None
    scale: float | Quotient = 1 / _BYTE
    mean: Value | tuple[Value, ...] = 0.0
    std: Divisor | tuple[Divisor, ...] = 1.0
    interpolation: str = "bilinear"
    antialias: bool | Literal["warn"] = True
    max_size: Edge | None = None
    rounding: bool = True
    size_divisor: Multiple = 1

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.interpolation not in FILTERS:
            raise ValueError(f"interpolation is one of {', '.join(FILTERS)}")
        if self.antialias is False and self.interpolation not in PLAIN_FILTERS:
            raise ValueError(f"antialias = false is for {', '.join(PLAIN_FILTERS)}")
        if not _SMALLEST <= self.factor <= _LARGEST:
            raise ValueError("scale is a number from 1e-9 to 1e6, such as 1 or 1/255")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) not in (1, self.channel_count):
                raise ValueError(
                    f"{name} has {len(values)} values, channels {self.order} has "
                    f"{self.channel_count}"
                )
        if isinstance(self.pad_color, tuple) and len(self.pad_color) == 2:
            raise ValueError("pad_color is one level, or red, green and blue")
        if not self.rounding:
            self._check_unrounded()

    def _check_unrounded(self) -> None:
        if self.antialias or self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError("rounding = false is for bilinear and bicubic, antialias = false")
        if self.crop or (self.letterbox and self.pad_color != "mean"):
            raise ValueError('rounding = false is without a crop, and with pad_color = "mean"')

    def _check_sizes(self) -> None:
        for one, other in (("letterbox_size", "resize_size"), ("letterbox_size", "crop_size")):
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"{one} and {other} exclude each other")
        if self.resize_mode == "cover" and len(self.resize_edges) != 2:  # made in Python
            raise ValueError("resize_mode = cover needs resize_size = [height, width]")
        if self.max_size is not None and len(self.resize_edges) != 1:
            raise ValueError("max_size needs resize_size = the shorter edge")
        if self.size_divisor > 1 and (self.crop or self.letterbox):
            raise ValueError("size_divisor excludes crop_size and letterbox_size")
        for what, size in (("crop", self.crop), ("letterbox", self.letterbox)):
            if size is not None and size[0] * size[1] > MAX_PIXELS:
                raise ValueError(f"the {what} has more than {MAX_PIXELS // 1_000_000} megapixels")

    @property
    def resize_edges(self) -> tuple[int, ...]:
        """`resize_size`: nothing, the shorter edge, or height and width."""
        size = self.resize_size
        return (size,) if isinstance(size, int) else size or ()

    @property
    def crop(self) -> tuple[int, int] | None:
        """(height, width) of the crop; ``None`` for no crop."""
        return _rectangle(self.crop_size)

    @property
    def letterbox(self) -> tuple[int, int] | None:
        """(height, width) of the letterbox; ``None`` for none."""
        return _rectangle(self.letterbox_size)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the input; ``None`` where it follows from the image's own size."""
        edges = self.resize_edges
        if len(edges) == 2 and self.resize_mode == "stretch" and self.size_divisor == 1:
            return self.crop or (edges[0], edges[1])
        return self.crop or self.letterbox

    @property
    def order(self) -> Literal["rgb", "bgr", "gray"]:
        """`channels`, or what follows where it is not stated."""
        if self.channels is not None:
            return self.channels
        lists = [values for values in (self.mean, self.std) if isinstance(values, tuple)]
        return "gray" if lists and all(len(values) == 1 for values in lists) else "rgb"

    @property
    def channel_count(self) -> int:
        """1 for gray, 3 for colours."""
        return _COUNTS[self.order]

    @property
    def factor(self) -> float:
        """`scale` as a number; 0 where it divides by zero."""
        if not isinstance(self.scale, str):
            return float(self.scale)
        numerator, denominator = map(float, self.scale.split("/"))
        return numerator / denominator if denominator else 0.0

    @property
    def means(self) -> tuple[float, ...]:
        """`mean` of each channel."""
        return self._of_each_channel(self.mean)

    @property
    def divisors(self) -> tuple[float, ...]:
        """`std` of each channel."""
        return self._of_each_channel(self.std)

    @property
    def padding(self) -> tuple[int, int, int]:
        """`pad_color` as red, green and blue; black for the mean."""
        if self.pad_color == "mean":
            return (0, 0, 0)
        color = (self.pad_color,) if isinstance(self.pad_color, int) else self.pad_color
        return (color[0], color[-2 % len(color)], color[-1])

    def _of_each_channel(self, values: float | tuple[float, ...]) -> tuple[float, ...]:
        every = (values,) if isinstance(values, (int, float)) else values
        return every if len(every) == self.channel_count else every * self.channel_count

    def as_dict(self) -> dict[str, Any]:
        """JSON values in canonical form: what applies is there, what does not is left out; sizes
        are lists, `mean` and `std` have a number for each channel.

        >>> Preprocessing(crop_size=8, mean=0.5).as_dict()["mean"]
        [0.5, 0.5, 0.5]
        """
        found: dict[str, Any] = {}
        if self.resize_edges:
            found["resize_size"] = list(self.resize_edges)
        if self.resize_mode != "stretch":
            found["resize_mode"] = self.resize_mode
        if self.max_size:
            found["max_size"] = self.max_size
        if self.letterbox:
            color = list(self.padding)
            plain = color[0] if len(set(color)) == 1 else color
            found |= {
                "letterbox_size": list(self.letterbox),
                "pad_color": "mean" if self.pad_color == "mean" else plain,
                "pad_position": self.pad_position,
                "upscale": self.upscale,
            }
        if self.crop:
            found["crop_size"] = list(self.crop)
        found |= {
            "channels": self.order,
            "scale": self.factor,
            "mean": list(self.means),
            "std": list(self.divisors),
        }
        # Without a size too: images are then stretched to the network's input.
        found |= {"interpolation": self.interpolation, "antialias": bool(self.antialias)}
        found |= {} if self.rounding else {"rounding": False}
        return found | ({"size_divisor": self.size_divisor} if self.size_divisor > 1 else {})

    def __str__(self) -> str:
        """What is done, in one line."""
        steps = [*self._geometry(), self.order]
        steps.append("scale 1/255" if self.factor == 1 / _BYTE else f"scale {self.factor:g}")
        for name, values, neutral in (("mean", self.means, 0.0), ("std", self.divisors, 1.0)):
            if any(value != neutral for value in values):
                shown = values[:1] if len(set(values)) == 1 else values
                steps.append(f"{name} {' '.join(f'{value:g}' for value in shown)}")
        return ", ".join(steps)

    def _geometry(self) -> list[str]:
        how = self.interpolation + ("" if self.antialias else ", not antialiased")
        how += "" if self.rounding else ", not rounded"
        steps = []
        if len(self.resize_edges) == 1:
            most = f", longer at most {self.max_size}" if self.max_size else ""
            steps.append(f"shorter edge to {self.resize_edges[0]}{most} ({how})")
        elif self.resize_edges:
            verb = {"stretch": "stretched to", "cover": "made to cover"}[self.resize_mode]
            steps.append(f"{verb} {in_words(self.resize_edges)} ({how})")
        if self.letterbox:
            color = ", ".join(map(str, dict.fromkeys(self.padding)))
            color = "of the mean" if self.pad_color == "mean" else color
            larger = "" if self.upscale else ", not enlarged"
            steps.append(
                f"letterbox {in_words(self.letterbox)}, {self.pad_position}, colour {color}{larger}"
                f" ({how})"
            )
        if self.crop:
            steps.append(f"crop {in_words(self.crop)}")
        if self.size_divisor > 1:
            steps.append(f"padded to multiples of {self.size_divisor}")
        return steps or ["in its own size"]


KEYS = Preprocessing.__struct_fields__
"""Names of the entries."""


def checked_preprocessing(
    stated: Mapping[str, Any] | Preprocessing, source: Source | None = None
) -> Preprocessing:
    """`stated`, an entry of a weights file or a sidecar, or a table of a TOML file.

    Args:
        stated: JSON values, see :class:`Preprocessing`.
        source: of messages; by default they are :class:`trtnet.PlanError`.

    Raises:
        PlanError: says which entry is unknown or cannot be followed.
    """
    if isinstance(stated, Preprocessing):
        return stated
    source = source or Source("", "the preprocessing", PlanError, FIX)
    values = dict(stated)
    require_known(values, source)
    found = checked(values, Preprocessing, source)
    require_effect(values, source)
    return found


FIX = (
    "correct it, state it with --preprocess (preprocess=), or prepare the image yourself and give "
    "it as .npy"
)


def uncropped(rules: Preprocessing) -> Preprocessing:
    """`rules` without a crop: the whole image is in the input."""
    return msgspec.structs.replace(rules, crop_size=None)


def require_known(stated: Mapping[str, Any], source: Source, where: str = "") -> None:
    """Raises an error of `source` where `stated` has a key that is none, with the nearest names.

    Args:
        where: what the document calls the table with these keys.
    """
    unknown = next((key for key in stated if key not in KEYS), None)
    if unknown is not None:
        text = shortened(unknown)
        error = source.refuse(
            f"unknown key {text}{where and f' in {where}'}",
            expected=", ".join(KEYS),
            got=f"{text}: {shortened(stated[unknown])}",
        )
        raise _with_advice(error, str(unknown))


def require_effect(stated: Mapping[str, Any], source: Source) -> None:
    """Raises an error of `source` for a key that has no effect beside the others."""
    present = [key for key, value in stated.items() if value is not None]
    idle = [key for key in present if key in _OF_A_LETTERBOX and not stated.get("letterbox_size")]
    if idle:
        raise _idle(source, idle[0], "of a letterbox", "letterbox_size", "letterbox_size")
    sizes = stated.get("resize_size")
    if "resize_mode" in present and not (isinstance(sizes, Sequence) and len(sizes) == 2):
        pair = "resize_size = [height, width]"
        raise _idle(source, "resize_mode", "of a resize to a height and a width", pair, pair)


def _idle(source: Source, key: str, of: str, expected: str, add: str) -> TrtnetError:
    flag = f"--{add.split()[0].replace('_', '-')}"
    error = source.refuse(f"{key} has no effect: it is {of}", expected=f"{expected} beside it")
    error.fix = f"add {add} ({flag}), or leave {key} out"
    return error


def _with_advice(error: TrtnetError, key: str) -> TrtnetError:
    plain = re.sub(r"[^a-z]+", "_", key.lower())
    if plain in ELSEWHERE:
        advice: str | None = f"write {ELSEWHERE[plain]}"
    else:
        advice = did_you_mean(plain, KEYS, cutoff=0.5)
    error.fix = advice or error.fix
    return error


def in_words(size: tuple[int, ...]) -> str:
    """(height, width) as flags and messages have it.

    >>> in_words((320, 192))
    '320x192'
    """
    return "x".join(map(str, size))


def _rectangle(size: int | tuple[int, ...] | None) -> tuple[int, int] | None:
    if isinstance(size, int):
        return (size, size)
    return (size[0], size[-1]) if size else None
