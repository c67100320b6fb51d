"""interpolate with scale factors, on dynamic sizes, antialiased, by areas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F
from trtnet.ops.resampling import scaled_size

TF = torch.nn.functional
SPATIAL = {"linear": (7,), "bilinear": (5, 8), "bicubic": (5, 8), "trilinear": (3, 5, 4)}
SMOOTH = [(mode, corners) for mode in SPATIAL for corners in (None, True)]
NEAREST = [("nearest", None), ("nearest-exact", None)]
LOOSE = {"rtol64": 1e-6, "rtol": 2e-5, "through_torch": True}  # positions are float32


def both(**options: Any) -> tuple[Any, Any]:
    """interpolate of trtnet and of PyTorch with the same options."""
    return lambda x: F.interpolate(x, **options), lambda x: TF.interpolate(x, **options)


def named(sizes: Any) -> list[Any]:
    return [("N", 2, *"DHW"[: len(sizes)])]


@pytest.mark.parametrize(("mode", "corners"), [*SMOOTH, *NEAREST])
@pytest.mark.parametrize("factor", [2, 3.0, 0.5, 1.5, 1 / 3])
def test_scale_factors(check: Any, mode: str, corners: bool | None, factor: float) -> None:
    """Factors of dynamic axes: PyTorch's positions follow the factor, not the sizes."""
    if mode == "bicubic" and corners:
        pytest.skip("the same as by size")
    sizes = SPATIAL.get(mode, (5, 8))
    if 3 * factor < 1:
        sizes = tuple(n + 1 for n in sizes)
    options = {"scale_factor": factor, "mode": mode, "align_corners": corners}
    check(*both(**options), (2, 2, *sizes), dynamic=named(sizes), **LOOSE)


@pytest.mark.parametrize(("mode", "corners"), [("bilinear", False), ("bicubic", None), NEAREST[0]])
def test_a_factor_for_each_axis(check: Any, mode: str, corners: bool | None) -> None:
    options = {"scale_factor": (1.5, 0.4), "mode": mode, "align_corners": corners}
    for dynamic in (("N", 2, "H", 8), ("N", 2, 5, "W"), ("N", 2, 5, 8), (2, 2, "H", "W")):
        check(*both(**options), (2, 2, 5, 8), dynamic=[dynamic], **LOOSE)


@pytest.mark.parametrize(("mode", "corners"), [*SMOOTH, *NEAREST, ("area", None)])
def test_recomputed_factors(check: Any, mode: str, corners: bool | None) -> None:
    sizes = SPATIAL.get(mode, (5, 8))
    options = {"scale_factor": 1.6, "mode": mode, "align_corners": corners}
    shape, dynamic = (2, 2, *sizes), named(sizes)
    recomputed = both(**options, recompute_scale_factor=True)
    check(*recomputed, shape, dynamic=dynamic, **LOOSE)
    if mode == "area":
        check(*both(**options), shape, dynamic=dynamic, **LOOSE)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_rounds_as_pytorch_does(check: Any, mode: str) -> None:
    """In float32, where the position of a pixel may come out below a whole number."""
    pairs = [(n, out) for n in range(1, 40) for out in range(1, 60, 3)]
    for n, out in [pair for pair in pairs if _differs(*pair, mode)][:6]:
        x = np.arange(n, dtype=np.float32).reshape(1, 1, n)
        wanted = TF.interpolate(torch.from_numpy(x), out, mode=mode).numpy()
        net = trtnet.Network("rtx")
        net.output("y", F.interpolate(net.input("x", x.shape), out, mode=mode))
        np.testing.assert_array_equal(trtnet.reference.run(net.definition, {"x": x})["y"], wanted)


def _differs(n: int, out: int, mode: str) -> bool:
    x = torch.arange(n, dtype=torch.float32).reshape(1, 1, n)
    half = 1 if mode == "nearest-exact" else 0
    exact = (2 * np.arange(out) + half) * n // (2 * out)
    return not np.array_equal(TF.interpolate(x, out, mode=mode).numpy()[0, 0], exact)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("target", [
    {"size": (3, 11)}, {"size": (1, 1)}, {"size": (5, 8)}, {"scale_factor": (0.4, 2.3)},
    {"scale_factor": 0.3},
])  # fmt: skip
def test_antialias(check: Any, mode: str, corners: bool, target: Any) -> None:
    options = {**target, "mode": mode, "align_corners": corners, "antialias": True}
    check(*both(**options), (2, 3, 5, 8), dynamic=[("N", "C", 5, 8)], **LOOSE)


@pytest.mark.parametrize("sizes", [(7,), (5, 8), (3, 5, 4)])
@pytest.mark.parametrize("target", [{"size": 3}, {"size": 1}, {"size": 9}, {"scale_factor": 0.5}])
def test_area(check: Any, sizes: Any, target: Any) -> None:
    check(*both(**target, mode="area"), (2, 2, *sizes), dynamic=named(sizes), **LOOSE)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_the_size_of_another_tensor(check: Any, mode: str) -> None:
    check(
        lambda x, y: F.interpolate(x, size=y.shape[2:], mode=mode),
        lambda x, y: TF.interpolate(x, size=y.shape[2:], mode=mode),
        (2, 2, 5, 8),
        (2, 1, 7, 3),
        dynamic=[("N", 2, "H", "W"), ("N", 1, "h", "w")],
        rtol64=1e-6,
    )


@pytest.mark.parametrize("factor", [1.5, 2.25, 1 / 3, 0.1, 0.6, 1.1, 0.9, 1.25, 0.0625, 3.3])
def test_scaled_sizes_round_as_pytorch_does(net: Any, factor: float) -> None:
    size = scaled_size(net.input("x", ("N", 2)).shape[0], factor)
    net.output("size", net.sizes([size]))
    for n in (1, 2, 3, 7, 10, 20, 63, 64, 90, 1000, 4095):
        values = {"x": np.zeros((n, 2), np.float32)}
        assert trtnet.reference.run(net.definition, values)["size"][0] == int(n * factor)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's: the names are old
@pytest.mark.parametrize(
    ("ours", "options"),
    [
        (F.upsample, {"scale_factor": 2}),
        (F.upsample, {"size": 7, "mode": "bilinear", "align_corners": True}),
        (F.upsample_nearest, {"size": (3, 4)}),
        (F.upsample_bilinear, {"scale_factor": 3}),
    ],
)
def test_old_names(check: Any, ours: Any, options: Any) -> None:
    theirs = getattr(TF, ours.__name__)
    check(lambda x: ours(x, **options), lambda x: theirs(x, **options), (1, 2, 5, 4))


def test_modules(check_module: Any) -> None:
    for ours, theirs in (
        (nn.UpsamplingNearest2d(scale_factor=2), torch.nn.UpsamplingNearest2d(scale_factor=2)),
        (nn.UpsamplingBilinear2d((7, 3)), torch.nn.UpsamplingBilinear2d((7, 3))),
        (nn.Upsample(None, 0.5, "bicubic"), torch.nn.Upsample(None, 0.5, "bicubic")),
        (nn.Upsample(None, (1.5, 2), "bilinear", True, True),
         torch.nn.Upsample(None, (1.5, 2), "bilinear", True, True)),
    ):  # fmt: skip
        check_module(ours, theirs, (2, 2, 5, 4), dynamic=[("N", 2, "H", "W")], rtol64=1e-6)


def test_half_precision() -> None:
    net = trtnet.Network("rtx", precision="fp16")
    x = net.input("x", (1, 2, "H", 8), "fp16")
    for options in ({"scale_factor": 0.5}, {"scale_factor": 1.5, "mode": "bicubic"}):
        assert F.interpolate(x, **options).dtype is trtnet.float16


@pytest.mark.parametrize("options", [
    {"size": 3, "scale_factor": 2}, {}, {"size": (1, 2, 3)}, {"scale_factor": (1, 2, 3)},
    {"size": 0}, {"scale_factor": 0.1}, {"size": 3, "recompute_scale_factor": True},
    {"size": 3, "align_corners": True}, {"size": 3, "mode": "trilinear"},
    {"size": 3, "mode": "area", "align_corners": False}, {"size": 3, "antialias": True},
])  # fmt: skip
def test_what_pytorch_refuses(net: Any, options: Any) -> None:
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        TF.interpolate(torch.zeros(1, 1, 4, 5), **options)
    with pytest.raises((ShapeError, UnsupportedError)):
        F.interpolate(net.input("x", (1, 1, 4, 5)), **options)
