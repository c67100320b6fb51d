"""normalize_image: the reference pixel by pixel, and the native form against it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import trtnet
from trtnet.plugins.shipped.normalize_image import native, reference

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(7, 9), (5, 12), (14, 3), (1, 1)]


def between(index: int, size: int, out_size: int) -> tuple[int, int, float]:
    position = max((index + 0.5) * size / out_size - 0.5, 0.0)
    first = min(int(position), size - 1)
    return first, min(first + 1, size - 1), position - first


@pytest.mark.parametrize("size", SIZES)
def test_reference_follows_half_pixel_centres(
    size: tuple[int, int], rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (2, 7, 9, 3), np.uint8)
    got = reference.normalize_image(torch.from_numpy(images), size, MEAN, STD, torch.float64)
    for row, column in np.ndindex(*size):
        y0, y1, below = between(row, 7, size[0])
        x0, x1, right = between(column, 9, size[1])
        top = images[:, y0, x0] * (1 - right) + images[:, y0, x1] * right
        bottom = images[:, y1, x0] * (1 - right) + images[:, y1, x1] * right
        want = ((top * (1 - below) + bottom * below) / 255 - MEAN) / STD
        np.testing.assert_allclose(got[:, :, row, column], want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_native_form_is_the_reference(
    size: tuple[int, int], rng: np.random.Generator, check: Callable[..., None]
) -> None:
    images = rng.integers(0, 256, (2, 7, 9, 3), np.uint8)
    check(
        lambda x: native.normalize_image(x, size, MEAN, STD),
        lambda x: reference.normalize_image(x, size, MEAN, STD, torch.float32),
        images,
        dynamic=[("N", "H", "W", 3)],
        rtol64=1e-6,  # against PyTorch in float32
    )


def test_native_form_gives_the_type_asked_for(net: trtnet.Network) -> None:
    images = net.input("images", (1, 4, 4, 3), "uint8")
    y = native.normalize_image(images, (2, 2), MEAN, STD, trtnet.float16)
    assert (y.shape, y.dtype) == ((1, 3, 2, 2), trtnet.float16)
