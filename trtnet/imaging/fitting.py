"""Preprocessing for the input of a network: its size, and its number of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from trtnet.errors import UsageError
from trtnet.imaging.placement import prepared_size
from trtnet.imaging.preprocessing import Preprocessing, checked_preprocessing, in_words

_AXES = 4


@dataclass(frozen=True)
class EdgeRange:
    """The heights, or the widths, that a network takes, in pixels.

    Attributes:
        least, most: the smallest and the largest.
        step: all are multiples of it.
    """

    least: int
    most: int
    step: int = 1

    def nearest(self, edge: int) -> int:
        """The one nearest to `edge`."""
        step = self.step
        low, high = -(-self.least // step) * step, self.most // step * step
        return min(max(round(edge / step) * step, low), high)


@dataclass(frozen=True)
class ImageInput:
    """The images that a network takes.

    Attributes:
        channels: how many.
        height, width: which.
    """

    channels: int
    height: EdgeRange
    width: EdgeRange

    @classmethod
    def exactly(cls, channels: int, height: int, width: int) -> ImageInput:
        """One size."""
        return cls(channels, EdgeRange(height, height), EdgeRange(width, width))

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> ImageInput | None:
        """That of an input (N, channels, height, width); ``None`` for another number of axes, and
        where a size but N is known only at run time, -1."""
        if len(shape) != _AXES or -1 in shape[1:]:
            return None
        return cls.exactly(*shape[1:])

    @property
    def only(self) -> tuple[int, int] | None:
        """(height, width), where there is only one."""
        size = (self.height.least, self.width.least)
        return size if size == (self.height.most, self.width.most) else None

    def nearest(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) nearest to `size`; where `size` is too large or too small as a whole,
        in its proportions as far as possible."""
        edges = (self.height, self.width)
        pairs = [*zip(size, edges, strict=True)]
        ratio = min(1.0, *(edge.most / have for have, edge in pairs))
        ratio = max(ratio, *(edge.least / have for have, edge in pairs))
        height, width = (edge.nearest(round(have * ratio)) for have, edge in pairs)
        return height, width

    def __str__(self) -> str:
        """Such as ``3x320x192``, or ``1x64..512x64..512``."""
        edges = (
            str(e.least) if e.least == e.most else f"{e.least}..{e.most}"
            for e in (self.height, self.width)
        )
        return "x".join((str(self.channels), *edges))


def fitted(
    preprocessing: Mapping[str, Any] | Preprocessing,
    taken: ImageInput,
    size: tuple[int, int] | None = None,
) -> Preprocessing:
    """A preprocessing that gives what a network takes, changed as little as that needs.

    * A letterbox gets the input's size. So does a crop, and a resize before it changes by the same
      ratio: the shorter edge 256 before a crop of 224 becomes 366 before one of 320. Before a crop
      that is not square, images are made to cover it with the same margin.
    * Any other image is stretched to the input's size, or where it was to be padded, made as large
      as fits and padded: no pixel is lost. Where the input has a range of sizes, that happens only
      to images that come out of it.
    * An input of one channel gets gray images, normalised by the averages of `mean` and `std`.

    Args:
        preprocessing: as it is stated.
        taken: what the network takes.
        size: (width, height) of the image; without it, sizes that follow from the image's own stay
            where the network takes several.

    Raises:
        PlanError: an invalid preprocessing.
        UsageError: a number of channels that no image has, or gray images for an input of three.
    """
    rules = _in_channels(checked_preprocessing(preprocessing), taken.channels)
    stated = rules.size
    if stated is None and taken.only is None:
        if size is None:
            return rules
        own = prepared_size(size, rules)
        wanted = taken.nearest(own)
        return rules if wanted == own else _stretched(rules, wanted)
    if stated is None:
        return _stretched(rules, taken.only or (0, 0))
    wanted = taken.nearest(stated)
    return rules if wanted == stated else _of_size(rules, stated, wanted)


def differences(stated: Preprocessing, used: Preprocessing) -> str:
    """What :func:`fitted` has changed, in one line; empty for nothing."""
    old, new = stated.as_dict(), used.as_dict()
    shown = [key for key in new if key in old or key.endswith(("_size", "_mode"))]
    keys = [key for key in shown if new[key] != old.get(key)]
    return ", ".join(f"{key} {_short(old.get(key))} -> {_short(new[key])}" for key in keys)


def _of_size(rules: Preprocessing, old: tuple[int, int], new: tuple[int, int]) -> Preprocessing:
    """`rules` for the input size `new` in place of `old`."""
    if rules.letterbox is not None:
        return msgspec.structs.replace(rules, letterbox_size=new)
    edges = rules.resize_edges
    if rules.crop is None:
        return _stretched(rules, new)
    if len(edges) == 2:
        scaled = tuple(
            max(1, round(edge * b / a)) for edge, a, b in zip(edges, old, new, strict=True)
        )
        return msgspec.structs.replace(rules, resize_size=scaled, crop_size=new)
    if not edges:
        return msgspec.structs.replace(rules, crop_size=new)
    height, width = (max(1, round(edges[0] * edge / min(old))) for edge in new)
    covered = (height,) if height == width else (height, width)
    mode: Literal["stretch", "cover"] = "stretch" if height == width else "cover"
    return msgspec.structs.replace(rules, resize_size=covered, resize_mode=mode, crop_size=new)


def _stretched(rules: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    if rules.max_size or rules.size_divisor > 1:  # in its proportions, and padded
        return msgspec.structs.replace(
            rules, resize_size=None, max_size=None, size_divisor=1, letterbox_size=size,
            pad_color="mean", pad_position="top-left", upscale=True,
        )  # fmt: skip
    return msgspec.structs.replace(rules, resize_size=size, resize_mode="stretch", crop_size=None)


def _in_channels(rules: Preprocessing, channels: int) -> Preprocessing:
    if channels == rules.channel_count:
        return rules
    if channels == 1:
        mean, std = (sum(values) / len(values) for values in (rules.means, rules.divisors))
        return msgspec.structs.replace(rules, channels="gray", mean=(mean,), std=(std,))
    if channels != 3:
        raise UsageError(
            f"the network takes {channels} channels, which no image has",
            expected="an input (N, channels, height, width) with 1 or 3 channels",
            fix="prepare the inputs yourself and give them as .npy to trtnet run",
        )
    raise UsageError(
        "the preprocessing makes gray images, and the network takes 3 channels",
        expected='channels = "rgb" or "bgr"',
        got=f"channels {rules.order}, mean {list(rules.means)}",
        fix="--channels rgb, and --mean and --std of three values or one for all",
    )


def _short(value: object) -> str:
    if isinstance(value, list) and all(isinstance(edge, int) for edge in value):
        return in_words(tuple(value))
    if isinstance(value, list):
        return " ".join(f"{number:.4g}" for number in value)
    return "none" if value is None else str(value)
