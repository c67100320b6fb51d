"""The layers of YOLOv3 and YOLOv4 as darknet's descriptions have them.

Redmon and Farhadi, YOLOv3, https://arxiv.org/abs/1804.02767; Bochkovskiy et al., YOLOv4,
https://arxiv.org/abs/2004.10934. The numbers are those of ``cfg/*.cfg`` in
https://github.com/pjreddie/darknet and https://github.com/AlexeyAB/darknet (public domain).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trtnet.reading.darknet import Section

Sections = list[Section]

_V3 = "10,13,16,30,33,23,30,61,62,45,59,119,116,90,156,198,373,326"
_V4 = "12,16,19,36,40,28,36,75,76,55,72,146,142,110,192,243,459,401"
_TINY = "10,14,23,27,37,58,81,82,135,169,344,319"
_ADDED = Section("shortcut", {"from": "-3", "activation": "linear"})
_UP = Section("upsample", {"stride": "2"})


def _conv(filters: int, size: int = 1, stride: int = 1, activation: str = "leaky") -> Section:
    return Section("convolutional", {
        "batch_normalize": "1", "filters": str(filters), "size": str(size),
        "stride": str(stride), "pad": "1", "activation": activation,
    })  # fmt: skip


def _route(*layers: int) -> Section:
    return Section("route", {"layers": ",".join(map(str, layers))})


def _pool(size: int, stride: int) -> Section:
    return Section("maxpool", {"size": str(size), "stride": str(stride)})


def _head(mask: Sequence[int], classes: int, anchors: str, scale: float = 1.0) -> Sections:
    """The last convolution of a level, and what its channels mean."""
    filters = len(mask) * (5 + classes)
    last = {"filters": str(filters), "size": "1", "stride": "1", "pad": "1", "activation": "linear"}
    told = {"mask": ",".join(map(str, mask)), "anchors": anchors, "classes": str(classes),
            "num": str(anchors.count(",") // 2 + 1), "scale_x_y": str(scale)}  # fmt: skip
    return [Section("convolutional", last), Section("yolo", told)]


def _pairs(channels: int, count: int) -> Sections:
    """A 1×1 convolution to half of the channels and a 3×3 one, some times."""
    return [_conv(channels // 2), _conv(channels, 3)] * count


def yolov3(classes: int) -> Sections:
    """Darknet-53 and three levels."""
    layers = [Section("net"), _conv(32, 3)]
    for count, channels in ((1, 64), (2, 128), (8, 256), (8, 512), (4, 1024)):
        layers += [_conv(channels, 3, 2), *[*_pairs(channels, 1), _ADDED] * count]
    layers += [*_pairs(1024, 3), *_head((6, 7, 8), classes, _V3)]
    for channels, finer, mask in ((512, 61, (3, 4, 5)), (256, 36, (0, 1, 2))):
        layers += [_route(-4), _conv(channels // 2), _UP, _route(-1, finer)]
        layers += [*_pairs(channels, 3), *_head(mask, classes, _V3)]
    return layers


def yolov3_tiny(classes: int) -> Sections:
    """Seven convolutions with poolings between them, and two levels."""
    layers = [Section("net")]
    for channels, stride in ((16, 2), (32, 2), (64, 2), (128, 2), (256, 2), (512, 1)):
        layers += [_conv(channels, 3), _pool(2, stride)]
    layers += [_conv(1024, 3), _conv(256), _conv(512, 3), *_head((3, 4, 5), classes, _TINY)]
    layers += [_route(-4), _conv(128), _UP, _route(-1, 8), _conv(256, 3)]
    return [*layers, *_head((0, 1, 2), classes, _TINY)]


def yolov4(classes: int) -> Sections:
    """CSPDarknet-53, pooling at three sizes, and three levels that go down and up again."""
    layers = [Section("net"), _conv(32, 3, activation="mish")]
    for count, channels in ((1, 64), (2, 128), (8, 256), (8, 512), (4, 1024)):
        layers += _partial_stage(channels, count)
    three = [_conv(512), _conv(1024, 3), _conv(512)]
    pools = [_pool(5, 1), _route(-2), _pool(9, 1), _route(-4), _pool(13, 1), _route(-1, -3, -5, -6)]
    layers += [*three, *pools, *three]
    for channels, finer in ((256, 85), (128, 54)):
        layers += [_conv(channels), _UP, _route(finer), _conv(channels), _route(-1, -3)]
        layers += [*_pairs(2 * channels, 2), _conv(channels)]
    layers += [_conv(256, 3), *_head((0, 1, 2), classes, _V4, 1.2)]
    for channels, coarser, mask, scale in (
        (256, -16, (3, 4, 5), 1.1), (512, -37, (6, 7, 8), 1.05)
    ):  # fmt: skip
        layers += [_route(-4), _conv(channels, 3, 2), _route(-1, coarser)]
        layers += [*_pairs(2 * channels, 3), *_head(mask, classes, _V4, scale)]
    return layers


def _partial_stage(channels: int, count: int) -> Sections:
    """A stage whose sums are of one half of the channels; in the first both have all."""
    first = channels == 64
    half, hidden = (64, 32) if first else (channels // 2, channels // 2)

    def conv(filters: int, size: int = 1, stride: int = 1) -> Section:
        return _conv(filters, size, stride, "mish")

    sums = [conv(hidden), conv(half, 3), _ADDED] * count
    return [
        conv(channels, 3, 2), conv(half), _route(-2), conv(half), *sums, conv(half),
        _route(-1, -(3 * count + 4)), conv(channels),
    ]  # fmt: skip


def yolov4_tiny(classes: int) -> Sections:
    """Three stages of which the second half of the channels is worked on, and two levels."""
    layers = [Section("net"), _conv(32, 3, 2), _conv(64, 3, 2)]
    half = Section("route", {"layers": "-1", "groups": "2", "group_id": "1"})
    for channels in (64, 128, 256):
        layers += [_conv(channels, 3), half, _conv(channels // 2, 3), _conv(channels // 2, 3)]
        layers += [_route(-1, -2), _conv(channels), _route(-6, -1), _pool(2, 2)]
    layers += [_conv(512, 3), _conv(256), _conv(512, 3), *_head((3, 4, 5), classes, _TINY, 1.05)]
    layers += [_route(-4), _conv(128), _UP, _route(-1, 23), _conv(256, 3)]
    return [*layers, *_head((1, 2, 3), classes, _TINY, 1.05)]


DESCRIPTIONS: dict[str, Callable[[int], Sections]] = {
    made.__name__: made for made in (yolov3, yolov3_tiny, yolov4, yolov4_tiny)
}
"""Sections by the model's name, for a number of classes."""
