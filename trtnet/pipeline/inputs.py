"""Seeded inputs, and inputs from calibration data, in whole batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trtnet.errors import UsageError
from trtnet.pipeline.recipe import INPUT

if TYPE_CHECKING:
    from trtnet.quantization import Batches


def seeded_batches(
    shapes: Sequence[tuple[int, ...]], images: int, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Seeded normal inputs, at least `images` of them for each shape, in whole batches.

    Yields:
        The number of images, and the batch that holds them: float32.

    Raises:
        UsageError: `images` is not positive.
    """
    _check_count(images)
    random = np.random.default_rng(seed)
    for shape in shapes:
        for _ in range(math.ceil(images / shape[0])):
            yield shape[0], random.standard_normal(shape, dtype=np.float32)


def data_batches(
    shapes: Sequence[tuple[int, ...]], images: int, data: Batches, name: str = INPUT
) -> Iterator[tuple[int, np.ndarray]]:
    """The first images of `data`, at least `images` of them for each batch size in `shapes`, in
    whole batches; from the start again where there are too few. Yields, and raises, what
    :func:`seeded_batches` does."""
    _check_count(images)
    for size, *_ in shapes:
        for start in range(0, images, size):
            places = (i % data.items for i in range(start, start + size))
            yield size, np.concatenate([data.read(range(i, i + 1))[name] for i in places])


def _check_count(images: int) -> None:
    if images < 1:
        raise UsageError("nothing to verify with", expected="at least one image", got=images)
