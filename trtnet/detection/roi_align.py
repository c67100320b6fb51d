"""RoIAlign over a pyramid of features: every box is pooled from the level that fits its size.

He et al., Mask R-CNN, https://arxiv.org/abs/1703.06870, section 3; the choice of a level is that of
Lin et al., Feature Pyramid Networks, https://arxiv.org/abs/1612.03144, equation 1.

The pixels of all levels are rows of one table, and each box picks rows of its own level. So a box
costs the same however many levels there are, and nothing is computed for levels that it does not
use; products with matrices, as in the native form of the plugin ``roi_align``, would compute every
box on every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.detection.overlap import box_area
from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError, UsageError
from trtnet.ops import windows
from trtnet.ops.elementwise import floor, ge, logical_and, sqrt
from trtnet.ops.joining import cat, unbind
from trtnet.ops.positions import take_slices
from trtnet.ops.shape import expand, flatten, permute, reshape, unsqueeze
from trtnet.tensor import Tensor, same_size

CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # a box of 224 x 224 pixels belongs to the stride 2**4
_EPSILON = np.float32(1e-6)


class Pyramid:
    """Features of several strides, as a table of pixels.

    Args:
        features: (B, C, H, W) of each level, the largest first; H and W may be Dims.
        strides: how many pixels of the network's input one pixel of each level stands for, powers
            of two that double from level to level.

    Raises:
        UsageError: other strides, or not one for each level.
    """

    def __init__(self, features: Sequence[Tensor], strides: Sequence[int]) -> None:
        wanted = [strides[0] << level for level in range(len(features))] if strides else []
        if not wanted or list(strides) != wanted or strides[0] & (strides[0] - 1):
            raise UsageError("strides of a pyramid", got=f"{strides} of {len(features)} levels",
                             expected="powers of two that double, one for each level")  # fmt: skip
        self.network = features[0].network
        self.strides = tuple(strides)
        self.batch, self.channels = features[0].shape[:2]
        sizes = [x.shape[2:] for x in features]
        starts: list[Any] = [0]
        for height, width in sizes:
            starts.append(starts[-1] + height * width)
        self._pixels = self._table([starts[-1]])
        self._starts = self._table(starts[:-1])
        self._heights, self._widths = (self._table(side) for side in zip(*sizes, strict=True))
        self._scales = self.network.constant(np.array([1 / s for s in strides], np.float32))
        pixels = [flatten(permute(x, 0, 2, 3, 1), 1, 2) for x in features]
        self._rows = flatten(cat(pixels, 1), 0, 1)

    def _table(self, sizes: Sequence[Any]) -> Tensor:
        return self.network.sizes(sizes).to(int32)

    def pool(self, boxes: Tensor, output_size: tuple[int, int], sampling_ratio: int) -> Tensor:
        """The features of boxes, (B, K, C, *output_size), as those of
        ``torchvision.ops.MultiScaleRoIAlign`` (without half-pixel alignment, ``aligned=False``).

        Positions, weights and sums are float32 whatever the type of the features, which the result
        has.

        Args:
            boxes: (B, K, 4) finite corners in pixels of the network's input.
            output_size: rows and columns of bins.
            sampling_ratio: samples of a bin along each axis, at least 1.

        Raises:
            ShapeError: boxes of another shape.
            UsageError: no fixed number of samples.
        """
        if boxes.ndim != 3 or not same_size(boxes.shape[0], self.batch):
            raise ShapeError("boxes and features do not fit together", got=boxes.shape,
                             expected=f"({self.batch}, K, 4)")  # fmt: skip
        if sampling_ratio < 1:
            raise UsageError("sampling_ratio of boxes on a pyramid", expected="at least 1",
                             got=sampling_ratio, fix="sampling_ratio=2")  # fmt: skip
        level = pyramid_level(boxes, self.strides)
        scale, start, height, width = (
            unsqueeze(take_slices(table, level, 0), -1)
            for table in (self._scales, self._starts, self._heights, self._widths)
        )
        left, top, right, bottom = unbind(boxes.to(float32) * scale, -1)
        rows = _taps(top, bottom, output_size[0], sampling_ratio, height)
        columns = _taps(left, right, output_size[1], sampling_ratio, width)
        image = windows.positions(self.network, self.batch).to(int32) * self._pixels
        first = unsqueeze(start + reshape(image, (self.batch, 1, 1)), -1)
        total = None
        for y, row_weight in rows:
            row = first + unsqueeze(y * width, -1)
            for x, column_weight in columns:
                picked = take_slices(self._rows, row + unsqueeze(x, -2), 0).to(float32)
                weight = unsqueeze(row_weight, -1) * unsqueeze(column_weight, -2)
                part = picked * unsqueeze(weight, -1)
                total = part if total is None else total + part
        assert total is not None
        return permute(total, 0, 1, 4, 2, 3).to(self._rows.dtype)


def pyramid_level(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """(B, K) int32: the position in `strides` of the level of each box (B, K, 4): a box of twice
    the edges belongs to the next one."""
    size = sqrt(box_area(boxes))
    level = expand(boxes.network.constant(np.zeros((1, 1), np.int32)), *boxes.shape[:2])
    for stride in strides[1:]:
        level = level + ge(size, _least_size(int(math.log2(stride)))).to(int32)
    return level


def _least_size(level: int) -> float:
    """The smallest float32 whose level, ``floor(4 + log2(size / 224) + 1e-6)`` in float32, is
    `level`: a comparison with it decides as the logarithm does, and costs less."""
    size = np.float32(CANONICAL_SIZE * 2.0 ** (level - CANONICAL_LEVEL))
    while True:
        lower = np.nextafter(size, np.float32(0))
        exact = np.float32(CANONICAL_LEVEL) + np.log2(lower / np.float32(CANONICAL_SIZE))
        if np.floor(exact + _EPSILON) < level:
            return float(size)
        size = lower


def _taps(
    first: Tensor, last: Tensor, bins: int, samples: int, size: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """What the bins of boxes read along one axis, two pixels for each sample.

    Args:
        first, last: (B, K) ends of the boxes, in pixels of their levels.
        size: (B, K, 1) int32: how long the axis is in the box's level.

    Returns:
        (B, K, bins) int32 positions and float32 weights.
    """
    network = first.network
    length = (last - first).maximum(1.0)
    step = unsqueeze(length / bins, -1)
    index = network.constant(np.arange(bins, dtype=np.float32))
    starts = unsqueeze(first, -1) + index * step
    end = size.to(float32)
    taps = []
    for sample in range(samples):
        place = starts + step * (sample + 0.5) / samples
        inside = logical_and(ge(place, -1.0), ge(end, place)).to(float32) / samples
        place = place.maximum(0.0).minimum(end - 1.0)
        lower = floor(place)
        fraction = place - lower
        upper = (lower + 1.0).minimum(end - 1.0)
        taps.append((lower.to(int32), (1.0 - fraction) * inside))
        taps.append((upper.to(int32), fraction * inside))
    return taps
