"""A network as a list: each row makes one layer from those before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trtnet import nn
from trtnet.zoo.detection.yolo.blocks import Concat, Conv

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

Make = Callable[[int, int, int], nn.Module]
"""Makes a layer of its numbers of input channels, of output channels, and of repeated blocks."""


class Row(NamedTuple):
    """One layer.

    Attributes:
        make: makes the layer.
        channels: of its output, before scaling; ``None`` for as many as its inputs have.
        repeats: how often a block in it is repeated, before scaling.
        inputs: indices of the layers that it takes; -1 is the one before it.
    """

    make: Make
    channels: int | None = None
    repeats: int = 1
    inputs: tuple[int, ...] = (-1,)


class Scale(NamedTuple):
    """What makes a larger or smaller network of the same rows.

    Attributes:
        depth: what numbers of blocks are multiplied by.
        width: what numbers of channels are multiplied by.
        most: channels before that are at most this.
    """

    depth: float
    width: float
    most: int

    def channels(self, count: int) -> int:
        """A multiple of 8, not below the product."""
        return math.ceil(min(count, self.most) * self.width / 8) * 8

    def repeats(self, count: int) -> int:
        """At least one."""
        return max(round(count * self.depth), 1)


AS_WRITTEN = Scale(1.0, 1.0, 1 << 20)
"""Of a network whose numbers are multiples of 8 as they are."""


def layers(
    rows: Sequence[Row], scale: Scale = AS_WRITTEN, in_channels: int = 3
) -> tuple[list[nn.Module], list[int]]:
    """The layers, and how many channels each gives."""
    made: list[nn.Module] = []
    widths: list[int] = []
    for row in rows:
        taken = sum(widths[index] for index in row.inputs) if widths else in_channels
        given = taken if row.channels is None else scale.channels(row.channels)
        made.append(row.make(taken, given, scale.repeats(row.repeats)))
        widths.append(given)
    return made, widths


def features(rows: Sequence[Row], made: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """What each row's layer gives, called one after the other.

    Args:
        made: the rows' layers; there may be further ones behind them.
        x: what the first one takes.
    """
    given: list[Tensor] = []
    for row, layer in zip(rows, made, strict=False):
        taken = [given[index] for index in row.inputs] if given else [x]
        given.append(layer(*taken))
    return given


def down(in_channels: int, out_channels: int, _: int) -> nn.Module:
    """Halves height and width."""
    return Conv(in_channels, out_channels, 3, 2)


def double(*_: int) -> nn.Module:
    """Doubles height and width."""
    return nn.Upsample(scale_factor=2.0)


def concat(*inputs: int) -> Row:
    """The layer before, and others."""
    return Row(lambda *_: Concat(), inputs=(-1, *inputs))
