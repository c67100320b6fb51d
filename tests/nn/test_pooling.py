"""Pooling against PyTorch: windows at the edge above all.

Weights of means that TensorRT has no layer for are float32 constants: hence 1e-7 in float64.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn, reference
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional

# size, kernel, stride, padding
WINDOWS_1D = [
    (7, 2, 3, 1),
    (5, 3, 2, 1),
    (6, 3, 4, 1),
    (4, 2, 3, 1),
    (7, 3, 3, 0),
    (1, 2, 2, 1),
    (8, 4, 3, 2),
    (10, 1, 4, 0),
    (2, 3, 1, 1),
    (9, 2, 5, 1),
    (12, 4, 4, 2),
    (3, 3, 7, 1),
]
WINDOWS_2D = [
    ((7, 5), (2, 3), (3, 2), (1, 1)),
    ((4, 6), (2, 3), (3, 4), (1, 1)),
    ((9, 8), 3, 2, 1),
    ((6, 7), (3, 2), None, (1, 0)),
    ((5, 5), (4, 1), (3, 3), (2, 0)),
    ((112, 3), 3, 2, 1),
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("window", WINDOWS_1D)
def test_pool1d(check_module: Any, window: Any, ceil_mode: bool) -> None:
    size, *arguments = window
    shape = (2, 3, size)
    check_module(
        nn.MaxPool1d(*arguments, ceil_mode=ceil_mode),
        torch.nn.MaxPool1d(*arguments, ceil_mode=ceil_mode),
        shape,
    )
    for include in (True, False):
        options = {"ceil_mode": ceil_mode, "count_include_pad": include}
        check_module(
            nn.AvgPool1d(*arguments, **options), torch.nn.AvgPool1d(*arguments, **options), shape
        )


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("window", WINDOWS_2D)
def test_pool2d(check_module: Any, window: Any, ceil_mode: bool) -> None:
    size, *arguments = window
    shape = (2, 3, *size)
    check_module(
        nn.MaxPool2d(*arguments, ceil_mode=ceil_mode),
        torch.nn.MaxPool2d(*arguments, ceil_mode=ceil_mode),
        shape,
    )
    for include, divisor in itertools.product((True, False), (None, 3)):
        options = {
            "ceil_mode": ceil_mode,
            "count_include_pad": include,
            "divisor_override": divisor,
        }
        check_module(
            nn.AvgPool2d(*arguments, **options),
            torch.nn.AvgPool2d(*arguments, **options),
            shape,
            rtol64=1e-9 if divisor is None else 1e-7,
        )


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("arguments", [((2, 3, 1), (3, 2, 1), (1, 1, 0)), (3, 2, 1), (2,)])
def test_pool3d(check_module: Any, arguments: Any, ceil_mode: bool) -> None:
    shape = (2, 3, 5, 7, 4)
    check_module(
        nn.MaxPool3d(*arguments, ceil_mode=ceil_mode),
        torch.nn.MaxPool3d(*arguments, ceil_mode=ceil_mode),
        shape,
    )
    for include, divisor in itertools.product((True, False), (None, 7)):
        options = {
            "ceil_mode": ceil_mode,
            "count_include_pad": include,
            "divisor_override": divisor,
        }
        check_module(
            nn.AvgPool3d(*arguments, **options),
            torch.nn.AvgPool3d(*arguments, **options),
            shape,
            rtol64=1e-9 if divisor is None else 1e-7,
        )


@pytest.mark.parametrize("size", [(7, 8), (8, 9), (9, 10)])
def test_dynamic_axes(check: Any, size: Any) -> None:
    """Where stride + padding stay within the kernel, ceil_mode is exact for every size."""
    dynamic = [("N", 3, "H", "W")]
    shape = (2, 3, *size)
    for options in ({"ceil_mode": True}, {"ceil_mode": False}):
        check(
            lambda x, o=options: F.max_pool2d(x, 3, 2, 1, **o),
            lambda x, o=options: TF.max_pool2d(x, 3, 2, 1, **o),
            shape,
            dynamic=dynamic,
        )
        for include in (True, False):
            both = {**options, "count_include_pad": include}
            check(
                lambda x, o=both: F.avg_pool2d(x, 3, 2, 1, **o),
                lambda x, o=both: TF.avg_pool2d(x, 3, 2, 1, **o),
                shape,
                dynamic=dynamic,
            )
    check(
        lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
        lambda x: TF.avg_pool2d(x, 3, 2, 1, divisor_override=5),
        shape,
        dynamic=dynamic,
        rtol64=1e-7,
    )


def test_every_size_in_one_dimension(net: Any) -> None:
    """Sizes 1 to 12, kernels 1 to 4, strides 1 to 5, every padding: values and sizes."""
    values, wanted = {}, {}
    for size in range(1, 13):
        x = net.input(f"x{size}", (1, 1, size))
        values[x.name] = np.random.default_rng(size).standard_normal((1, 1, size)).astype("f")
        given = torch.from_numpy(values[x.name])
        for kernel, stride, ceil_mode in itertools.product(
            (1, 2, 3, 4), range(1, 6), (True, False)
        ):
            for padding in range(kernel // 2 + 1):
                if size + 2 * padding < kernel:
                    continue
                name = f"{size} {kernel} {stride} {padding} {ceil_mode}"
                args = kernel, stride, padding
                for include in (True, False):
                    key = f"avg {name} {include}"
                    net.output(key, F.avg_pool1d(x, *args, ceil_mode, include))
                    wanted[key] = TF.avg_pool1d(given, *args, ceil_mode, include)
                net.output(f"max {name}", F.max_pool1d(x, *args, ceil_mode=ceil_mode))
                wanted[f"max {name}"] = TF.max_pool1d(given, *args, ceil_mode=ceil_mode)
    got = reference.run(net.definition, values)
    assert len(wanted) > 2000
    for key, result in wanted.items():
        np.testing.assert_allclose(got[key], result.numpy(), atol=1e-6, err_msg=key)
        assert net.outputs[key].shape == tuple(result.shape), key


def test_functions(check: Any) -> None:
    pairs = [
        (F.max_pool1d, TF.max_pool1d, (2, 3, 9)),
        (F.max_pool2d, TF.max_pool2d, (2, 3, 9, 7)),
        (F.max_pool3d, TF.max_pool3d, (2, 3, 5, 4, 7)),
        (F.avg_pool1d, TF.avg_pool1d, (2, 3, 9)),
        (F.avg_pool2d, TF.avg_pool2d, (2, 3, 9, 7)),
        (F.avg_pool3d, TF.avg_pool3d, (2, 3, 5, 4, 7)),
    ]
    for ours, theirs, shape in pairs:
        check(lambda x, f=ours: f(x, 2, 2), lambda x, f=theirs: f(x, 2, 2), shape)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.AdaptiveAvgPool1d, torch.nn.AdaptiveAvgPool1d),
        (nn.AdaptiveMaxPool1d, torch.nn.AdaptiveMaxPool1d),
    ],
)
@pytest.mark.parametrize(("size", "output"), [(7, 3), (5, 4), (3, 5), (8, 4), (9, 1), (4, 4)])
def test_adaptive_pool1d(check_module: Any, ours: Any, theirs: Any, size: int, output: int) -> None:
    check_module(ours(output), theirs(output), (2, 3, size), rtol64=1e-7)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool2d),
        (nn.AdaptiveMaxPool2d, torch.nn.AdaptiveMaxPool2d),
    ],
)
@pytest.mark.parametrize(
    ("size", "output"),
    [
        ((7, 7), 3), ((5, 7), (4, 3)), ((8, 6), (4, 3)), ((8, 6), (4, 4)), ((7, 5), (1, 2)),
        ((3, 5), (7, None)), ((9, 4), 1), ((6, 6), (6, 6)),
    ],
)  # fmt: skip
def test_adaptive_pool2d(check_module: Any, ours: Any, theirs: Any, size: Any, output: Any) -> None:
    check_module(
        ours(output),
        theirs(output),
        (2, 3, *size),
        rtol64=1e-7,
        dynamic=[("N", 3, "H", "W")] if output == 1 else [("N", 3, *size)],
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.AdaptiveAvgPool3d, torch.nn.AdaptiveAvgPool3d),
        (nn.AdaptiveMaxPool3d, torch.nn.AdaptiveMaxPool3d),
    ],
)
@pytest.mark.parametrize("output", [1, (4, 3, 2), (None, 2, 4), (2, 5, 4)])
def test_adaptive_pool3d(check_module: Any, ours: Any, theirs: Any, output: Any) -> None:
    check_module(ours(output), theirs(output), (2, 3, 5, 7, 4), rtol64=1e-7)


def test_adaptive_functions(check: Any) -> None:
    pairs = [
        (F.adaptive_avg_pool1d, TF.adaptive_avg_pool1d, (2, 3, 7)),
        (F.adaptive_avg_pool2d, TF.adaptive_avg_pool2d, (2, 3, 7, 5)),
        (F.adaptive_avg_pool3d, TF.adaptive_avg_pool3d, (2, 3, 4, 5, 7)),
        (F.adaptive_max_pool1d, TF.adaptive_max_pool1d, (2, 3, 7)),
        (F.adaptive_max_pool2d, TF.adaptive_max_pool2d, (2, 3, 7, 5)),
        (F.adaptive_max_pool3d, TF.adaptive_max_pool3d, (2, 3, 4, 5, 7)),
    ]
    for ours, theirs, shape in pairs:
        check(lambda x, f=ours: f(x, 3), lambda x, f=theirs: f(x, 3), shape, rtol64=1e-7)


def test_adaptive_pool_to_the_size_of_another_tensor(check: Any) -> None:
    """An output size that is the input's own axis needs no fixed size."""
    check(
        lambda x: F.adaptive_avg_pool2d(x, x.shape[2:]),
        lambda x: x,
        (2, 3, 4, 5),
        dynamic=[("N", 3, "H", "W")],
    )


def test_half_precision() -> None:
    net = trtnet.Network("rtx", precision="fp16")
    x = net.input("x", (1, 2, 7), "fp16")
    assert F.adaptive_avg_pool1d(x, 3).dtype is trtnet.float16
    assert F.avg_pool1d(x, 2, divisor_override=3).dtype is trtnet.float16


def test_errors(net: Any, raises: Any) -> None:
    with raises(ShapeError, "at most half of kernel_size", "<= 1"):
        nn.AvgPool2d(3, padding=2)
    with raises(UnsupportedError, "return_indices needs fixed sizes", "return_indices=False"):
        F.adaptive_max_pool2d(net.input("d", ("N", 3, "H", 9)), 3, return_indices=True)
    with raises(ShapeError, "max_pool2d", "rank 4 or 3", "rank 2"):
        F.max_pool2d(net.input("x", (9, 9)), 2)
