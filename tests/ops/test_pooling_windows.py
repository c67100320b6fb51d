"""Pooling with dilation, indices, dynamic sizes, powers, and inputs without a batch axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional


def torch_or_ours(name: str, **options: Any) -> tuple[Any, Any]:
    """`name` of trtnet's and of PyTorch's functional, with the same options."""
    ours, theirs = getattr(F, name), getattr(TF, name)
    return lambda x: ours(x, **options), lambda x: theirs(x, **options)


@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "dilation": 2},
    {"kernel_size": (1, 3), "dilation": (3, 2), "stride": (2, 1), "padding": (0, 1)},
    {"kernel_size": 2, "dilation": 3, "stride": 4, "padding": 1, "ceil_mode": True},
    {"kernel_size": (3, 2), "dilation": (1, 4), "padding": (1, 0), "ceil_mode": True},
    {"kernel_size": 2, "stride": 5, "padding": 1, "ceil_mode": True},
])  # fmt: skip
@pytest.mark.parametrize("indices", [False, True])
def test_max_pool2d(check: Any, options: Any, indices: bool) -> None:
    check(
        *torch_or_ours("max_pool2d", **options, return_indices=indices),
        (2, 3, 9, 10),
        dynamic=[("N", 3, "H", "W")],
        through_torch=True,
    )


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d"])
@pytest.mark.parametrize("indices", [False, True])
def test_max_pool_of_every_rank(check: Any, name: str, indices: bool) -> None:
    rank = int(name[-2])
    functions = torch_or_ours(
        name, kernel_size=3, stride=2, padding=1, dilation=2, return_indices=indices
    )
    sizes = (6, 7, 8)[:rank]
    dynamic = [("N", 3, *"DHW"[:rank])]
    check(*functions, (2, 3, *sizes), dynamic=dynamic, through_torch=True)
    check(*functions, (3, *sizes), dynamic=[("C", *"DHW"[:rank])], through_torch=True)


def test_positions_of_equal_and_infinite_values(check: Any) -> None:
    x = np.zeros((1, 2, 5, 6), np.float32)
    x[0, 1] = -np.inf
    x[0, 0, 2:, 3:] = 1
    for kernel, dilation in ((3, 1), (2, 2), (2, 3)):
        options = {"kernel_size": kernel, "dilation": dilation, "padding": 1, "stride": 1}
        options["return_indices"] = True
        check(*torch_or_ours("max_pool2d", **options), x, through_torch=True)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_maxima_of_integers(check: Any, dtype: Any) -> None:
    x = np.arange(-15, 15, dtype=dtype).reshape(1, 1, 5, 6)
    x[0, 0, 0, 0] = np.iinfo(dtype).max
    check(*torch_or_ours("max_pool2d", kernel_size=3, padding=1), x, through_torch=True)


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9])
@pytest.mark.parametrize(
    "window", [(2, 2, 1), (2, 3, 1), (3, 2, 1), (1, 3, 0), (4, 3, 2), (3, 5, 1)]
)
@pytest.mark.parametrize("include", [True, False])
def test_ceil_mode_with_dynamic_sizes(check: Any, size: int, window: Any, include: bool) -> None:
    kernel, stride, padding = window
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": True}
    dynamic = [("N", 2, "L")]
    average = torch_or_ours("avg_pool1d", **options, count_include_pad=include)
    check(*average, (2, 2, size), dynamic=dynamic, through_torch=True)
    if include:
        check(*torch_or_ours("max_pool1d", **options), (2, 2, size), dynamic=dynamic)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 2},
    {"kernel_size": (2, 3), "divisor_override": 7},
    {"kernel_size": 2, "stride": 3, "padding": 1, "divisor_override": -1},
    {"kernel_size": 3, "stride": (1, 2), "padding": (0, 1), "count_include_pad": False},
])  # fmt: skip
def test_avg_pool2d(check: Any, options: Any, ceil_mode: bool) -> None:
    functions = torch_or_ours("avg_pool2d", **options, ceil_mode=ceil_mode)
    common = {"through_torch": True, "rtol64": 1e-7}  # area / divisor is float32
    check(*functions, (2, 3, 8, 7), dynamic=[("N", 3, "H", "W")], **common)
    check(*functions, (3, 8, 7), dynamic=[(3, None, "W")], **common)


@pytest.mark.parametrize("ours", [F.lp_pool1d, F.lp_pool2d, F.lp_pool3d])
@pytest.mark.parametrize("norm", [1, 2, 3.0])
def test_lp_pool(check: Any, rng: Any, ours: Any, norm: float) -> None:
    name, rank = ours.__name__, int(ours.__name__[-2])
    x = rng.standard_normal((2, 3, *(5, 7, 4)[:rank])).astype(np.float32)
    x = np.abs(x) if norm == 3 else x
    options = {"norm_type": norm, "kernel_size": 2, "stride": 3, "ceil_mode": True}
    dynamic = [("N", 3, *"DHW"[:rank])]
    check(*torch_or_ours(name, **options), x, dynamic=dynamic, through_torch=True, rtol64=1e-7)


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(
    ("size", "output"), [((7, 7), 3), ((5, 7), (4, None)), ((3, 5), (7, 2)), ((9, 4), (1, 4))]
)
def test_adaptive_pooling_of_dynamic_sizes(check: Any, kind: str, size: Any, output: Any) -> None:
    functions = torch_or_ours(f"adaptive_{kind}_pool2d", output_size=output)
    dynamic = [("N", 3, "H", "W")]
    options = {"dynamic": dynamic, "through_torch": True, "rtol64": 1e-6}
    check(*functions, (2, 3, *size), **options)
    check(*functions, (3, *size), **{**options, "dynamic": [("C", "H", size[1])]})


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pooling_to_dynamic_sizes(check: Any, kind: str) -> None:
    """The output has the size of another tensor."""
    ours, theirs = getattr(F, f"adaptive_{kind}_pool2d"), getattr(TF, f"adaptive_{kind}_pool2d")
    check(
        lambda x, y: ours(x, (y.shape[2], 3)),
        lambda x, y: theirs(x, (y.shape[2], 3)),
        (2, 3, 7, 8),
        (2, 1, 4, 2),
        dynamic=[("N", 3, "H", 8), ("N", 1, "h", 2)],
        rtol64=1e-6,
    )


@pytest.mark.parametrize(
    "name", ["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"]
)
def test_adaptive_positions(check: Any, name: str) -> None:
    sizes = (6, 4, 8)[: int(name[-2])]
    check(
        *torch_or_ours(name, output_size=2, return_indices=True), (2, 3, *sizes), through_torch=True
    )


def test_modules(check_module: Any) -> None:
    for ours, arguments in (
        (nn.MaxPool2d, (3, 2, 1, 2, True)),
        (nn.MaxPool1d, (3, 2, 1, 2, True, True)),
        (nn.LPPool1d, (1, 3)),
        (nn.LPPool2d, (2, 3, 2, True)),
        (nn.LPPool3d, (2, 2)),
        (nn.AdaptiveMaxPool2d, (4, True)),
        (nn.AvgPool2d, (3, None, 1, True, False, 5)),
    ):
        theirs = getattr(torch.nn, ours.__name__)(*arguments)
        shape = (2, 3, 8, 8, 8)[: 2 + int(ours.__name__[-2])]
        check_module(ours(*arguments), theirs, shape, rtol64=1e-7)


@pytest.mark.parametrize("ours", [
    F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices,
    F.adaptive_max_pool1d_with_indices, F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool3d_with_indices,
])  # fmt: skip
def test_names_with_indices(check: Any, ours: Any) -> None:
    theirs = getattr(TF, ours.__name__)
    shape = (2, 3, 4, 6, 8)[: 2 + int(ours.__name__.partition("_pool")[2][0])]
    check(lambda x: ours(x, 2), lambda x: theirs(x, 2), shape, through_torch=True)


@pytest.mark.parametrize("call", [
    lambda f, x: f.max_pool2d(x, 3, stride=0),
    lambda f, x: f.max_pool2d(x, 0),
    lambda f, x: f.max_pool2d(x, 3, padding=-1),
    lambda f, x: f.max_pool2d(x, 2, padding=2),
    lambda f, x: f.max_pool2d(x, 3, dilation=0),
    lambda f, x: f.max_pool2d(x, 3, dilation=3),
    lambda f, x: f.max_pool2d(x, 6),
    lambda f, x: f.max_pool2d(x, 9, 2, ceil_mode=True),
    lambda f, x: f.avg_pool2d(x, 3, stride=0),
    lambda f, x: f.avg_pool2d(x, 3, padding=2),
    lambda f, x: f.avg_pool2d(x, 6),
    lambda f, x: f.avg_pool2d(x, 2, divisor_override=0),
    lambda f, x: f.adaptive_avg_pool2d(x, -1),
])  # fmt: skip
def test_what_pytorch_refuses(net: Any, call: Any) -> None:
    with pytest.raises(RuntimeError):
        call(TF, torch.zeros(1, 1, 5, 5))
    with pytest.raises(ShapeError):
        call(F, net.input("x", (1, 1, 5, 5)))


def test_integers_have_no_average(net: Any, raises: Any) -> None:
    with raises(UnsupportedError, "avg_pool2d: needs a floating-point tensor", "x.float()"):
        F.avg_pool2d(net.input("x", (1, 1, 4, 4), "int64"), 2)


@pytest.mark.parametrize("call", [
    lambda f, x: f.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3))),
    lambda f, x: f.max_pool2d(x, x.shape[2:], ceil_mode=True),
    lambda f, x: f.avg_pool2d(x, (3, x.size(3)), 2, (1, 0), count_include_pad=False),
    lambda f, x: f.max_pool2d(x, (x.size(2), 2)),
    lambda f, x: f.max_pool1d(x.flatten(2), x.size(2) * x.size(3)),
])  # fmt: skip
def test_windows_of_a_whole_axis_of_dynamic_size(check: Any, call: Any) -> None:
    shape = (2, 4, 5, 6)
    check(lambda x: call(F, x), lambda x: call(TF, x), shape, dynamic=[("N", 4, "H", "W")])


@pytest.mark.parametrize("kernel", [320, 2560, (400, 3)])
@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"count_include_pad": False, "padding": 1},
                                     {"divisor_override": 7}])  # fmt: skip
def test_ceil_mode_with_a_window_beyond_the_input(check: Any, kernel: Any, options: Any) -> None:
    """EfficientNet of transformers pools whole maps so. TensorRT has no window that large."""
    check(
        lambda x: F.avg_pool2d(x, kernel, ceil_mode=True, **options),
        lambda x: TF.avg_pool2d(x, kernel, ceil_mode=True, **options),
        (1, 4, 5, 6),
        rtol64=1e-7,  # area / divisor is float32
    )
    if not options:
        check(
            lambda x: F.max_pool2d(x, kernel, ceil_mode=True),
            lambda x: TF.max_pool2d(x, kernel, ceil_mode=True),
            (1, 4, 5, 6),
        )
