"""YOLO26, under the parameters' names of public checkpoints: one box for each object, without
suppression.

https://arxiv.org/abs/2606.03748. Of its layers, channels and names only the published facts are
used, and none of its code. Unconfirmed: the names inside of layer 22, and that SiLU follows the
first convolution of layer 9, as in the independent https://github.com/Borda/lucid-YOLO
(Apache-2.0). Weights: AGPL-3.0 as their publisher states, yours to obtain; none are shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.zoo.detection.yolo.blocks import SPPF
from trtnet.zoo.detection.yolo.heads import light
from trtnet.zoo.detection.yolo.registering import Design, register_end_to_end
from trtnet.zoo.detection.yolo.rows import Row
from trtnet.zoo.detection.yolo.v11 import LEVELS, NESTED, SCALES, backbone, neck, splitting

if TYPE_CHECKING:
    from trtnet import nn


def _pooling(in_channels: int, out_channels: int, _: int) -> nn.Module:
    return SPPF(in_channels, out_channels, shortcut=True)


def _design(size: str) -> Design:
    last = Row(splitting(True, attention=True), 1024)
    rows = backbone(size in NESTED, _pooling) + neck(True, last)
    return Design(__name__, "v26", size, rows, LEVELS, SCALES[size], bins=1, of_classes=light)


yolo26n, yolo26s, yolo26m, yolo26l, yolo26x = (
    register_end_to_end(f"yolo26{size}", f"YOLO26{size}.", _design(size)) for size in SCALES
)
