"""roi_align from TensorRT's layers, against torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torchvision

import trtnet
from trtnet.errors import UnsupportedError
from trtnet.plugins.shipped.roi_align.native import roi_align

# input, boxes, output size, spatial scale, sampling ratio, aligned
CASES = [
    ((2, 5, 9, 11), 4, (3, 3), 0.5, 2, True),
    ((1, 3, 9, 11), 3, (2, 5), 0.25, -1, False),
    ((2, 3, 8, 8), 4, (7, 7), 1.0, 0, True),
    ((3, 2, 6, 7), 5, (2, 3), 1.0, 3, False),
]


@pytest.mark.parametrize("case", CASES)
def test_native_form_is_torchvisions(
    case: tuple[Any, ...], rng: np.random.Generator, check: Callable[..., None]
) -> None:
    size, count, pooled, scale, ratio, aligned = case
    n, channels, height, width = size
    reach = np.array([width, height]) / scale
    first = rng.random((count, 2)) * 0.7 * reach - 1.5
    last = first + rng.random((count, 2)) * 0.99 * reach
    image = rng.integers(0, n, (count, 1))
    boxes = np.concatenate([image, first, last], 1).astype(np.float32)
    x = rng.standard_normal(size).astype(np.float32)
    named = ("N", channels, "H", "W") if ratio > 0 else ("N", channels, height, width)
    arguments = (pooled, scale, ratio, aligned)
    check(
        lambda x, boxes: roi_align(x, boxes, *arguments),
        lambda x, boxes: torchvision.ops.roi_align(x, boxes, *arguments),
        x,
        boxes,
        dynamic=[named, ("K", 5)],
    )


def test_adaptive_sampling_of_an_unknown_size_is_refused(net: trtnet.Network, raises: Any) -> None:
    x, boxes = net.input("x", (1, 2, "H", 8)), net.input("boxes", ("K", 5))
    with raises(UnsupportedError, "adaptive sampling ratio", "sampling_ratio=2"):
        roi_align(x, boxes, (7, 7))
