"""interpolate, Upsample and PixelShuffle against PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional

SHAPES = {
    "linear": (2, 3, 7),
    "bilinear": (2, 3, 5, 8),
    "bicubic": (2, 3, 5, 8),
    "trilinear": (1, 2, 3, 5, 4),
    "nearest": (2, 3, 5, 8),
    "nearest-exact": (2, 3, 5, 8),
}
MODES = [
    ("nearest", None),
    ("nearest-exact", None),
    ("linear", False),
    ("linear", True),
    ("bilinear", False),
    ("bilinear", True),
    ("trilinear", False),
    ("trilinear", True),
    ("bicubic", False),
    ("bicubic", True),
]


def sizes_for(mode: str) -> list[tuple[int, ...]]:
    """Up, down, mixed, the same, and a single pixel."""
    listed = [(10, 16, 7), (3, 5, 2), (2, 13, 9), SHAPES[mode][2:], (1, 1, 1), (1, 9, 1)]
    return [tuple(sizes[: len(SHAPES[mode]) - 2]) for sizes in listed]


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_sizes(check: Any, mode: str, align_corners: bool | None) -> None:
    shape = SHAPES[mode]
    for size in sizes_for(mode):
        options = {"size": size, "mode": mode, "align_corners": align_corners}
        check(
            lambda x, o=options: F.interpolate(x, **o),
            lambda x, o=options: TF.interpolate(x, **o),
            shape,
            rtol64=1e-6,
            dynamic=[("N", 3 if shape[1] == 3 else 2, *[None] * (len(shape) - 2))],
        )


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@pytest.mark.parametrize("factor", [2, 3.0, 0.5, 1.5, 2.3, 0.37, 1.0])
@pytest.mark.parametrize("recompute", [None, True])
def test_factors(
    check: Any, mode: str, align_corners: bool | None, factor: float, recompute: bool | None
) -> None:
    """`mode` weights are float32 constants where the factor does not divide evenly."""
    if recompute and factor == 2:
        return
    options = {
        "scale_factor": factor,
        "mode": mode,
        "align_corners": align_corners,
        "recompute_scale_factor": recompute,
    }
    shape = SHAPES[mode]
    whole = float(factor).is_integer()
    check(
        lambda x: F.interpolate(x, **options),
        lambda x: TF.interpolate(x, **options),
        shape,
        rtol64=1e-6,
        build=not recompute,
        dynamic=[("N", *shape[1:2], *["H", "W", "D"][: len(shape) - 2])] if whole else None,
    )


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_factor_for_each_axis(check: Any, mode: str) -> None:
    for factors in ((1.7, 2.0), (2, 0.6), (1, 1.3)):
        options = {"scale_factor": factors, "mode": mode}
        check(
            lambda x, o=options: F.interpolate(x, **o),
            lambda x, o=options: TF.interpolate(x, **o),
            (2, 3, 5, 8),
            rtol64=1e-6,
        )


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_to_the_size_of_another_tensor(check: Any, mode: str) -> None:
    """FPN and segmentation heads: the size is known only at run time."""
    check(
        lambda x, y: F.interpolate(x, size=y.shape[-2:], mode=mode) + y,
        lambda x, y: TF.interpolate(x, size=y.shape[-2:], mode=mode) + y,
        (2, 3, 4, 5),
        (2, 3, 9, 7),
        rtol64=1e-6,
        dynamic=[("N", 3, "H", "W"), ("N", 3, "A", "B")],
    )


def test_size_arithmetic(check: Any) -> None:
    def function(module: Any) -> Any:
        return lambda x: module.interpolate(
            x, size=(x.shape[2] * 2 - 1, x.shape[3] // 2 + 1), mode="bilinear"
        )

    check(function(F), function(TF), (2, 3, 5, 8), dynamic=[("N", 3, "H", "W")], rtol64=1e-6)


def test_upsample(check_module: Any) -> None:
    for options in (
        {"scale_factor": 2},
        {"size": 7, "mode": "bilinear", "align_corners": True},
        {"scale_factor": (1.5, 3), "mode": "bicubic"},
    ):
        check_module(
            nn.Upsample(**options), torch.nn.Upsample(**options), (2, 3, 4, 5), rtol64=1e-6
        )


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle(check: Any, check_module: Any, factor: int) -> None:
    shape = (2, 2 * factor**2, 3, 4)
    check_module(
        nn.PixelShuffle(factor),
        torch.nn.PixelShuffle(factor),
        shape,
        dynamic=[("N", shape[1], "H", "W")],
    )
    check(lambda x: F.pixel_shuffle(x, factor), lambda x: TF.pixel_shuffle(x, factor), shape)


def test_errors(net: Any, raises: Any) -> None:
    x, y = net.input("x", (1, 3, 4, 5)), net.input("y", ("N", "C", "H", 5))
    with raises(UnsupportedError, "antialias needs fixed sizes", "axis 2, from H to 7"):
        F.interpolate(y, size=7, mode="bilinear", antialias=True)
    with raises(UnsupportedError, "'nearest' has no antialias"):
        F.interpolate(x, size=7, antialias=True)
    with raises(UnsupportedError, "unknown mode 'cubic'", "bicubic"):
        nn.Upsample(size=7, mode="cubic")
    with raises(UnsupportedError, "align_corners has no meaning"):
        nn.Upsample(size=7, mode="nearest", align_corners=True)
    with raises(ShapeError, "'trilinear' is for another rank", "rank 5"):
        F.interpolate(x, size=7, mode="trilinear")
    with raises(ShapeError, "either size or scale_factor"):
        F.interpolate(x)
    with raises(ShapeError, "either size or scale_factor"):
        F.interpolate(x, size=3, scale_factor=2)
    with raises(ShapeError, "one value per axis"):
        F.interpolate(x, size=(1, 2, 3))
    with raises(ShapeError, "interpolate", "positive", "0"):
        F.interpolate(x, scale_factor=0.1)
    with raises(UnsupportedError, "scale_factor needs fixed sizes", "H * 0.7"):
        F.interpolate(y, scale_factor=0.7)
    with raises(ShapeError, "multiple of upscale_factor squared", "k * 4"):
        nn.PixelShuffle(2)(x)
    with raises(ShapeError, "multiple of upscale_factor squared"):
        nn.PixelShuffle(2)(y)
