"""YOLO11, under the parameters' names of public checkpoints.

There is no paper of its authors; an overview by others is https://arxiv.org/abs/2410.17725. Of its
layers, channels and names only the published facts are used, and none of its code. Weights:
AGPL-3.0 as their publisher states, yours to obtain; none are shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.zoo.detection.yolo.blocks import C2PSA, SPPF, C3k2
from trtnet.zoo.detection.yolo.heads import light
from trtnet.zoo.detection.yolo.registering import Design, register_suppressed
from trtnet.zoo.detection.yolo.rows import Make, Row, Scale, concat, double, down

if TYPE_CHECKING:
    from trtnet import nn

LEVELS = (16, 19, 22)
SCALES = {
    "n": Scale(0.5, 0.25, 1024),
    "s": Scale(0.5, 0.5, 1024),
    "m": Scale(0.5, 1.0, 512),
    "l": Scale(1.0, 1.0, 512),
    "x": Scale(1.0, 1.5, 512),
}
NESTED = ("m", "l", "x")
"""Sizes all of whose blocks are nested."""


def splitting(nested: bool, ratio: float = 0.5, attention: bool = False) -> Make:
    """Makes a :class:`C3k2`."""

    def make(in_channels: int, out_channels: int, count: int) -> nn.Module:
        return C3k2(in_channels, out_channels, count, nested, ratio, attention)

    return make


def attending(in_channels: int, _: int, count: int) -> nn.Module:
    """Makes a :class:`C2PSA`."""
    return C2PSA(in_channels, count)


def backbone(nested: bool, pooling: Make) -> tuple[Row, ...]:
    """The rows that the head's features come from, in YOLO11 and YOLO26.

    Args:
        nested: whether the blocks of the first two levels are nested too.
        pooling: makes the pyramid pooling.
    """
    return (
        Row(down, 64),
        Row(down, 128),
        Row(splitting(nested, 0.25), 256, 2),
        Row(down, 256),
        Row(splitting(nested, 0.25), 512, 2),
        Row(down, 512),
        Row(splitting(True), 512, 2),
        Row(down, 1024),
        Row(splitting(True), 1024, 2),
        Row(pooling, 1024),
        Row(attending, 1024, 2),
    )


def neck(nested: bool, last: Row) -> tuple[Row, ...]:
    """The rows from the backbone to the head.

    Args:
        nested: whether the blocks before the `last` row are nested.
    """
    merging = splitting(nested)
    return (
        Row(double),
        concat(6),
        Row(merging, 512, 2),
        Row(double),
        concat(4),
        Row(merging, 256, 2),
        Row(down, 256),
        concat(13),
        Row(merging, 512, 2),
        Row(down, 512),
        concat(10),
        last,
    )


def _pooling(in_channels: int, out_channels: int, _: int) -> nn.Module:
    return SPPF(in_channels, out_channels)


def _design(size: str) -> Design:
    nested = size in NESTED
    rows = backbone(nested, _pooling) + neck(nested, Row(splitting(True), 1024, 2))
    return Design(__name__, "v11", size, rows, LEVELS, SCALES[size], of_classes=light)


yolo11n, yolo11s, yolo11m, yolo11l, yolo11x = (
    register_suppressed(f"yolo11{size}", f"YOLO11{size}.", _design(size)) for size in SCALES
)
