"""Anchors: boxes at every position of feature maps, which a detector's outputs are relative to.

Where the sizes of the image and of the features are numbers, anchors are constants, computed by
NumPy; where they are known at run time only, ordinary layers compute the same from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.ops import windows
from trtnet.ops.joining import cat, stack
from trtnet.ops.operands import as_tensor
from trtnet.ops.shape import expand, reshape, unsqueeze
from trtnet.tensor import Tensor

Numbers = Sequence[float]


class AnchorGenerator(Module):
    """``torchvision.models.detection.anchor_utils.AnchorGenerator``: boxes of given sizes and
    shapes around the upper left corner of each cell of a feature map.

    Args:
        sizes: for each feature map, the square roots of the areas of its anchors, in pixels.
        aspect_ratios: for each feature map, heights over widths; every size is made in each shape.

    Raises:
        UsageError: not as many aspect ratios as sizes.
    """

    def __init__(self, sizes: Sequence[Numbers], aspect_ratios: Sequence[Numbers]) -> None:
        super().__init__()
        if len(sizes) != len(aspect_ratios):
            raise UsageError("anchors of each feature map have sizes and aspect ratios",
                             expected=f"{len(sizes)} of each", got=len(aspect_ratios))  # fmt: skip
        self.sizes, self.aspect_ratios = sizes, aspect_ratios

    def num_anchors_per_location(self) -> list[int]:
        """How many anchors each cell of each feature map has."""
        return [len(s) * len(r) for s, r in zip(self.sizes, self.aspect_ratios, strict=True)]

    def forward(self, image: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
        """For each feature map, (H·W·A, 4) float32 corners in pixels of the image: row by row, A
        anchors for each cell.

        Args:
            image: (B, C, height, width), the network's input.
            features: (B, C, H, W) each. The distance of cells is the size of the image over that
                of the features, rounded down.

        Raises:
            UsageError: not as many feature maps as sizes.
        """
        _check_levels(features, self.sizes)
        found = []
        for feature, sizes, ratios in zip(features, self.sizes, self.aspect_ratios, strict=True):
            both = zip(image.shape[-2:], feature.shape[-2:], strict=True)
            corners = grid_points(feature, [size // count for size, count in both])
            boxes = cell_anchors(sizes, ratios)
            shifts = unsqueeze(cat([corners, corners], 1), 1)  # (H·W, 1, 4)
            found.append(reshape(shifts + feature.network.constant(boxes[None]), -1, 4))
        return found


class DefaultBoxGenerator(Module):
    """``torchvision.models.detection.anchor_utils.DefaultBoxGenerator``: the default boxes of SSD
    around the centre of each cell of a feature map.

    Liu et al., SSD: Single Shot MultiBox Detector, https://arxiv.org/abs/1512.02325.

    Args:
        aspect_ratios: for each feature map, besides 1; each also gives the turned box.
        min_ratio, max_ratio: the scales of the first and the last feature map, as fractions of the
            image, where there are no `scales`.
        scales: one more than there are feature maps.
        steps: for each feature map, the distance of its cells in pixels; by default the size of
            the image over that of the features.
        clip: whether widths and heights are at most those of the image.

    Raises:
        UsageError: `steps` or `scales` for another number of feature maps.
    """

    def __init__(
        self,
        aspect_ratios: Sequence[Numbers],
        min_ratio: float = 0.15,
        max_ratio: float = 0.9,
        scales: Numbers | None = None,
        steps: Numbers | None = None,
        clip: bool = True,
    ) -> None:
        super().__init__()
        count = len(aspect_ratios)
        for name, values, expected in (("steps", steps, count), ("scales", scales, count + 1)):
            if values is not None and len(values) != expected:
                raise UsageError(f"{name} of default boxes", expected=f"{expected} numbers",
                                 got=repr(values))  # fmt: skip
        self.aspect_ratios, self.steps, self.clip = aspect_ratios, steps, clip
        self.scales = _scales(count, min_ratio, max_ratio) if scales is None else list(scales)

    def num_anchors_per_location(self) -> list[int]:
        """How many boxes each cell of each feature map has."""
        return [2 + 2 * len(ratios) for ratios in self.aspect_ratios]

    def forward(self, image: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
        """For each feature map, (H·W·A, 4) float32 corners in pixels of the image: row by row, A
        boxes for each cell.

        Args:
            image: (B, C, height, width), the network's input.
            features: (B, C, H, W) each.

        Raises:
            UsageError: not as many feature maps as aspect ratios.
        """
        _check_levels(features, self.aspect_ratios)
        network = image.network
        size = _pair(image, image.shape[-1], image.shape[-2])  # (2,): width, height
        found = []
        for level, feature in enumerate(features):
            counts = _pair(feature, feature.shape[-1], feature.shape[-2])
            if self.steps is not None:
                counts = size / self.steps[level]
            centers = unsqueeze(grid_points(feature, (1, 1), 0.5) / counts, 1)
            sides = network.constant(self._sides(level)[None])  # (1, A, 2)
            near, far = centers - sides * 0.5, centers + sides * 0.5
            found.append(reshape(cat([near * size, far * size], 2), -1, 4))
        return found

    def _sides(self, level: int) -> np.ndarray:
        """(A, 2) float32: widths and heights as fractions of the image."""
        scale, following = self.scales[level : level + 2]
        between = math.sqrt(scale * following)
        pairs = [(scale, scale), (between, between)]
        for ratio in self.aspect_ratios[level]:
            width, height = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            pairs += [(width, height), (height, width)]
        sides = np.array(pairs, np.float32)
        return np.clip(sides, 0, 1) if self.clip else sides


def cell_anchors(sizes: Numbers, aspect_ratios: Numbers) -> np.ndarray:
    """(A, 4) float32 corners, whole numbers, of anchors around (0, 0): all `sizes` of the first
    aspect ratio (height over width), then of the next."""
    heights = np.sqrt(np.asarray(aspect_ratios, np.float32))
    both = [(side[:, None] * np.asarray(sizes, np.float32)).ravel()
            for side in (1 / heights, heights)]  # fmt: skip
    half = np.stack(both, 1)
    return np.round(np.concatenate([-half, half], 1) / 2).astype(np.float32)


def grid_points(feature: Tensor, stride: Sequence[Any], offset: float = 0.0) -> Tensor:
    """(H·W, 2) float32: x and y of each cell of a feature map, row by row.

    Args:
        feature: (B, C, H, W).
        stride: (vertical, horizontal) distance of cells, ints or Dims.
        offset: of the first cell from 0, in cells: 0.5 for the cells' centres.
    """
    network, (height, width) = feature.network, feature.shape[-2:]
    lines = []
    for count, step in ((height, stride[0]), (width, stride[1])):
        if isinstance(count, int) and isinstance(step, int):
            values = (np.arange(count, dtype=np.float32) + np.float32(offset)) * np.float32(step)
            lines.append(values)
        else:
            cells = windows.positions(network, count).to(float32)
            cells = cells + offset if offset else cells
            lines.append(cells * as_tensor(step, cells).to(float32))
    y, x = lines
    if isinstance(y, np.ndarray) and isinstance(x, np.ndarray):
        grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), -1)
        return network.constant(grid.reshape(-1, 2))
    y, x = (network.constant(line) if isinstance(line, np.ndarray) else line for line in (y, x))
    both = [expand(unsqueeze(x, 0), height, width), expand(unsqueeze(y, 1), height, width)]
    return reshape(stack(both, -1), -1, 2)


def _pair(like: Tensor, first: Any, second: Any) -> Tensor:
    """Two sizes, ints or Dims, as float32 (2,)."""
    if isinstance(first, int) and isinstance(second, int):
        return like.network.constant(np.array([first, second], np.float32))
    return stack([as_tensor(size, like, align=False).to(float32) for size in (first, second)])


def _scales(count: int, least: float, most: float) -> list[float]:
    if count == 1:
        return [least, most]
    return [least + (most - least) * k / (count - 1.0) for k in range(count)] + [1.0]


def _check_levels(features: Sequence[Tensor], of: Sequence[Any]) -> None:
    if len(features) != len(of):
        raise UsageError("anchors for another number of feature maps", expected=len(of),
                         got=len(features))  # fmt: skip
