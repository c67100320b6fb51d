"""YOLOv8, under the parameters' names of public checkpoints.

There is no paper of it; its boxes are those of Li et al., https://arxiv.org/abs/2006.04388. Of its
layers, channels and names only the published facts are used, and none of its code. Weights:
AGPL-3.0 as their publisher states, yours to obtain; none are shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.zoo.detection.yolo.blocks import SPPF, C2f
from trtnet.zoo.detection.yolo.registering import Design, register_suppressed
from trtnet.zoo.detection.yolo.rows import Row, Scale, concat, double, down

if TYPE_CHECKING:
    from trtnet import nn

LEVELS = (15, 18, 21)
SCALES = {
    "n": Scale(0.33, 0.25, 1024),
    "s": Scale(0.33, 0.5, 1024),
    "m": Scale(0.67, 0.75, 768),
    "l": Scale(1.0, 1.0, 512),
    "x": Scale(1.0, 1.25, 512),
}


def _adding(in_channels: int, out_channels: int, count: int) -> nn.Module:
    return C2f(in_channels, out_channels, count, shortcut=True)


def _merging(in_channels: int, out_channels: int, count: int) -> nn.Module:
    return C2f(in_channels, out_channels, count, shortcut=False)


def _pooling(in_channels: int, out_channels: int, _: int) -> nn.Module:
    return SPPF(in_channels, out_channels)


ROWS = (
    Row(down, 64),
    Row(down, 128),
    Row(_adding, 128, 3),
    Row(down, 256),
    Row(_adding, 256, 6),
    Row(down, 512),
    Row(_adding, 512, 6),
    Row(down, 1024),
    Row(_adding, 1024, 3),
    Row(_pooling, 1024),
    Row(double),
    concat(6),
    Row(_merging, 512, 3),
    Row(double),
    concat(4),
    Row(_merging, 256, 3),
    Row(down, 256),
    concat(12),
    Row(_merging, 512, 3),
    Row(down, 512),
    concat(9),
    Row(_merging, 1024, 3),
)

yolov8n, yolov8s, yolov8m, yolov8l, yolov8x = (
    register_suppressed(
        f"yolov8{size}", f"YOLOv8{size}.", Design(__name__, "v8", size, ROWS, LEVELS, scale)
    )
    for size, scale in SCALES.items()
)
