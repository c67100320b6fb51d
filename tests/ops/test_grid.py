"""grid_sample and affine_grid."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional
PADDINGS = ["zeros", "border", "reflection"]


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("corners", [None, True])
def test_images(check: Any, rng: Any, mode: str, padding: str, corners: bool | None) -> None:
    grid = (2.6 * rng.random((2, 4, 3, 2)) - 1.3).astype(np.float32)
    grid[0, 0] = [[-1, -1], [1, 1], [0, 0.99]] if mode != "nearest" else grid[0, 0]
    options = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    check(
        lambda x, g: F.grid_sample(x, g, **options),
        lambda x, g: TF.grid_sample(x, g, **options),
        (2, 3, 5, 6),
        grid,
        dynamic=[("N", 3, "H", "W"), ("N", "h", None, 2)],
        through_torch=True,
    )


@pytest.mark.parametrize(
    ("mode", "padding"), list(itertools.product(["bilinear", "nearest"], PADDINGS))
)
def test_volumes(check: Any, rng: Any, mode: str, padding: str) -> None:
    grid = (2.6 * rng.random((2, 2, 4, 3, 3)) - 1.3).astype(np.float32)
    check(
        lambda x, g: F.grid_sample(x, g, mode, padding),
        lambda x, g: TF.grid_sample(x, g, mode, padding),
        (2, 3, 4, 5, 6),
        grid,
        dynamic=[("N", 3, "D", "H", "W"), ("N", 2, "h", "w", 3)],
        through_torch=True,
    )


@pytest.mark.parametrize("corners", [None, True])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 1, 6), (2, 3, 4, 1, 5)])
def test_affine_grid(check: Any, size: Any, corners: bool | None) -> None:
    rank = len(size) - 2
    check(
        lambda t: F.affine_grid(t, size, corners),
        lambda t: TF.affine_grid(t, list(size), corners),
        (2, rank, rank + 1),
        dynamic=[("N", rank, rank + 1)],
        through_torch=True,
        rtol64=1e-6,
    )


@pytest.mark.parametrize("corners", [False, True])
def test_a_spatial_transformer(check: Any, corners: bool) -> None:
    """The grid has the size of the image, which is dynamic."""

    def warped(f: Any) -> Any:
        def call(x: Any, theta: Any) -> Any:
            grid = f.affine_grid(theta, x.size(), align_corners=corners)
            return f.grid_sample(x, grid, align_corners=corners)

        return call

    for sizes in ((4, 5), (1, 6), (3, 4, 5)):
        rank = len(sizes)
        check(
            warped(F), warped(TF), (2, 3, *sizes), (2, rank, rank + 1),
            dynamic=[("N", 3, *"DHW"[:rank]), ("N", rank, rank + 1)], rtol64=1e-5, rtol=1e-4,
        )  # fmt: skip


def test_half_precision_samples_in_float32() -> None:
    net = trtnet.Network("rtx", precision="fp16")
    x, grid = net.input("x", (1, 2, 4, 4), "fp16"), net.input("g", (1, 3, 3, 2), "fp16")
    out = F.grid_sample(x, grid)
    assert out.dtype is trtnet.float16
    assert F.affine_grid(net.input("t", (1, 2, 3), "fp16"), (1, 1, 4, 4)).dtype is trtnet.float16


def test_errors(net: Any, raises: Any) -> None:
    x, grid = net.input("x", (2, 3, 4, 5)), net.input("g", (2, 3, 3, 2))
    with raises(UnsupportedError, "unknown mode 'cubic'", "bicubic"):
        F.grid_sample(x, grid, "cubic")
    with raises(UnsupportedError, "unknown padding_mode 'mirror'"):
        F.grid_sample(x, grid, padding_mode="mirror")
    for wrong in ((2, 3, 3, 3), (1, 3, 3, 2), (3, 3, 2), (2, 3, 3, 3, 2)):
        with raises(ShapeError, "input and grid do not fit"):
            F.grid_sample(x, net.input(f"g{wrong}", wrong))
    with raises(UnsupportedError, "bicubic is for images"):
        volume = net.input("v", (2, 3, 4, 5, 6)), net.input("p", (2, 3, 3, 3, 3))
        F.grid_sample(*volume, mode="bicubic")
    with raises(ShapeError, "theta and size do not fit"):
        F.affine_grid(net.input("t", (2, 2, 3)), (2, 3, 4, 5, 6))
    with raises(ShapeError, "positive ints"):
        F.affine_grid(net.input("t2", (2, 2, 3)), (2, 3, 0, 5))
