"""Convolutions and transposed convolutions against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import NetworkError, ShapeError, UnsupportedError, WeightsError
from trtnet.nn import functional as F

TF = torch.nn.functional


@pytest.mark.parametrize(
    ("length", "options"),
    [
        (9, {"kernel_size": 3}),
        (10, {"kernel_size": 2, "stride": 5}),
        (7, {"kernel_size": 4, "padding": "same", "dilation": 2}),
        (11, {"kernel_size": 3, "padding": 3, "stride": 2, "groups": 2, "dilation": 3}),
        (5, {"kernel_size": 1, "bias": False, "groups": 4}),
    ],
)
def test_conv1d(check_module: Any, length: int, options: Any) -> None:
    check_module(
        nn.Conv1d(4, 6 if options.get("groups") != 4 else 8, **options),
        torch.nn.Conv1d(4, 6 if options.get("groups") != 4 else 8, **options),
        (2, 4, length),
        dynamic=[("N", 4, "L")],
    )


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((7, 9), {"kernel_size": 3, "padding": 1}),
        ((7, 9), {"kernel_size": (1, 4), "stride": (3, 2), "padding": (0, 3)}),
        ((11, 8), {"kernel_size": 2, "stride": 5}),
        ((9, 10), {"kernel_size": 3, "dilation": (2, 3), "groups": 2, "padding": (2, 1)}),
        ((7, 9), {"kernel_size": (3, 2), "groups": 4, "stride": 2, "bias": False}),
        ((7, 8), {"kernel_size": (2, 4), "padding": "same"}),
        ((7, 8), {"kernel_size": (4, 3), "padding": "same", "dilation": (3, 2), "groups": 2}),
        ((7, 8), {"kernel_size": 3, "padding": "valid"}),
        ((5, 6), {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"}),
        ((5, 6), {"kernel_size": 3, "padding": (1, 4), "padding_mode": "replicate", "stride": 2}),
        ((5, 6), {"kernel_size": 3, "padding": (5, 2), "padding_mode": "circular"}),
        ((5, 6), {"kernel_size": (4, 2), "padding": "same", "padding_mode": "reflect"}),
        ((1, 1), {"kernel_size": 3, "padding": 1}),
    ],
)
def test_conv2d(check_module: Any, size: Any, options: Any) -> None:
    zeros = options.get("padding_mode", "zeros") == "zeros"
    check_module(
        nn.Conv2d(4, 8, **options),
        torch.nn.Conv2d(4, 8, **options),
        (2, 4, *size),
        dynamic=[("N", 4, "H", "W")] if zeros else [("N", 4, *size)],
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (2, 3, 1), "stride": (1, 2, 3), "padding": (1, 0, 2)},
        {"kernel_size": 2, "dilation": (1, 2, 3), "groups": 2, "padding": "same"},
    ],
)
def test_conv3d(check_module: Any, options: Any) -> None:
    check_module(
        nn.Conv3d(4, 2, **options),
        torch.nn.Conv3d(4, 2, **options),
        (2, 4, 5, 6, 7),
        dynamic=[("N", 4, "D", None, "W")],
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": (2, 5), "stride": (3, 1), "padding": (0, 2)},
        {"kernel_size": 3, "stride": 3, "padding": 1, "output_padding": 2},
        {"kernel_size": 2, "stride": (3, 2), "output_padding": (2, 1)},
        {"kernel_size": 2, "stride": 3, "output_padding": (2, 0), "bias": False},
        {"kernel_size": 3, "stride": 2, "dilation": 3, "padding": 2, "output_padding": (2, 1)},
        {"kernel_size": 3, "stride": 2, "groups": 2, "padding": 1, "output_padding": (1, 0)},
        {"kernel_size": 2, "stride": 5, "groups": 4, "bias": False},
    ],
)
def test_conv_transpose2d(check_module: Any, options: Any) -> None:
    check_module(
        nn.ConvTranspose2d(4, 8, **options),
        torch.nn.ConvTranspose2d(4, 8, **options),
        (2, 4, 5, 4),
        dynamic=[("N", 4, "H", "W")],
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (2, 3, 1), "stride": (1, 2, 3), "padding": (1, 1, 0)},
        {"kernel_size": 2, "stride": 2, "groups": 2, "output_padding": (1, 0, 1)},
    ],
)
def test_conv_transpose3d(check_module: Any, options: Any) -> None:
    check_module(
        nn.ConvTranspose3d(4, 2, **options),
        torch.nn.ConvTranspose3d(4, 2, **options),
        (2, 4, 3, 4, 2),
        dynamic=[("N", 4, "D", "H", "W")],
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "size", "kernel"),
    [
        (F.conv1d, TF.conv1d, (7,), (6, 2, 3)),
        (F.conv2d, TF.conv2d, (7, 5), (6, 2, 3, 2)),
        (F.conv3d, TF.conv3d, (7, 5, 4), (6, 2, 3, 2, 1)),
        (F.conv_transpose2d, TF.conv_transpose2d, (7, 5), (4, 3, 3, 2)),
        (F.conv_transpose3d, TF.conv_transpose3d, (3, 5, 4), (4, 3, 3, 2, 1)),
    ],
)
def test_functions(check: Any, rng: Any, ours: Any, theirs: Any, size: Any, kernel: Any) -> None:
    weight, bias = rng.standard_normal(kernel), rng.standard_normal(6)
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)

    def run_torch(x: Any) -> Any:
        return theirs(
            x,
            torch.tensor(weight).to(x.dtype),
            torch.tensor(bias).to(x.dtype),
            stride=2,
            padding=1,
            groups=2,
        )

    check(lambda x: ours(x, weight, bias, stride=2, padding=1, groups=2), run_torch, (2, 4, *size))


def test_one_convolution_called_twice(check_module: Any) -> None:
    options = {"kernel_size": 3, "padding": 1}
    check_module(
        nn.Conv2d(4, 4, **options),
        torch.nn.Conv2d(4, 4, **options),
        (1, 4, 5, 6),
        call=lambda module, x: module(module(x)) + x,
    )


def test_stacked(check_module: Any) -> None:
    check_module(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2), nn.Sigmoid()),
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.ReLU(),
            torch.nn.ConvTranspose2d(4, 2, 2, 2),
            torch.nn.Sigmoid(),
        ),
        (2, 3, 7, 9),
        dynamic=[("N", 3, "H", "W")],
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32"])
@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (nn.Conv1d(4, 6, 3), torch.nn.Conv1d(4, 6, 3), (2, 4, 7)),
        (nn.Conv2d(4, 6, 3, groups=2), torch.nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 6)),
        (nn.Conv3d(4, 6, 2), torch.nn.Conv3d(4, 6, 2), (2, 4, 3, 4, 5)),
        (nn.ConvTranspose2d(4, 6, 3), torch.nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 6)),
    ],
)
def test_precision(check_module: Any, precision: str, ours: Any, theirs: Any, shape: Any) -> None:
    """The output is float32; half the weights' and values' bits are gone."""
    tolerance = {"fp16": 4e-3, "bf16": 3e-2, "tf32": 2e-5}[precision]
    check_module(ours, theirs, shape, precision=precision, rtol=tolerance, rtol64=tolerance)


def test_arguments_pytorch_refuses_too(raises: Any) -> None:
    with raises(ShapeError, "multiples of 3", "in_channels=4"):
        nn.Conv2d(4, 6, 3, groups=3)
    with raises(ShapeError, "'same' needs stride 1", "(2, 2)"):
        nn.Conv2d(4, 6, 3, stride=2, padding="same")
    with raises(UnsupportedError, "unknown padding 'full'"):
        nn.Conv2d(4, 6, 3, padding="full")
    with raises(UnsupportedError, "unknown padding_mode 'wrap'", "circular"):
        nn.Conv2d(4, 6, 3, padding_mode="wrap")
    with raises(ShapeError, "output_padding must be smaller", "< 2"):
        nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=2)
    with raises(UnsupportedError, "padding_mode='reflect'"):
        nn.ConvTranspose2d(4, 6, 3, padding_mode="reflect")
    with raises(ShapeError, "kernel_size must be an int, or 2 ints", "(1, 2, 3)"):
        nn.Conv2d(4, 6, (1, 2, 3))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 4, 3))

    def forward(self, x: Any) -> Any:
        return self.layer(self.stem(x))


@pytest.mark.parametrize(
    ("shape", "texts"),
    [
        ((1, 3, 9, 9), ("layer.1: conv2d", "8 channels", "got: 4")),
        ((1, 4, 9, 9), ("stem: conv2d", "3 channels", "got: 4")),
        ((9, 9), ("stem: conv2d", "rank 4 or 3", "rank 2")),
    ],
)
def test_the_module_that_breaks_is_named(net: Any, raises: Any, shape: Any, texts: Any) -> None:
    model = Broken()
    for parameter in model.parameters():
        parameter.array = np.zeros(parameter.shape, np.float32)
    with raises(ShapeError, *texts):
        model(net.input("x", shape))


def test_an_input_smaller_than_the_kernel(net: Any, raises: Any) -> None:
    conv = nn.Conv2d(1, 1, 5)
    conv.load_state_dict({"weight": np.ones((1, 1, 5, 5)), "bias": np.ones(1)})
    with raises((ShapeError, NetworkError), "conv"):
        conv(net.input("x", (1, 1, 3, 3))).shape  # noqa: B018


def test_weights_that_are_missing_or_not_finite_are_named(net: Any, raises: Any) -> None:
    x = net.input("x", (1, 3, 9, 9))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with raises(WeightsError, "0.weight: has no values yet", "(4, 3, 3, 3)", "load_state_dict"):
        model(x)
    weight, bias = np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32)
    bias[2] = np.inf
    model.load_state_dict({"0.weight": weight, "0.bias": bias})
    with raises(WeightsError, "0.bias: has values that are not finite", "1 of 4", "(2,)"):
        model(x)


def test_weights_too_large_for_half_precision_are_named(raises: Any) -> None:
    import trtnet

    net = trtnet.Network("rtx", precision="fp16")
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    model.load_state_dict({"0.weight": np.full((1, 1, 1, 1), 65520, np.float32)})
    with raises(WeightsError, "0.weight: does not fit float16", "65520", "bf16"):
        model(net.input("x", (1, 1, 1, 1)))
    model.load_state_dict({"0.weight": np.full((1, 1, 1, 1), 65519, np.float32)})
    assert model(net.input("y", (1, 1, 1, 1))).dtype is trtnet.float16


@pytest.mark.parametrize("declared", [(2, 3, 5, 7), ("N", 3, "H", "W")])
def test_output_size_of_transposed_convolutions(check_module: Any, declared: Any) -> None:
    arguments = (3, 4, 3, 2, 1)
    check_module(
        nn.ConvTranspose2d(*arguments),
        torch.nn.ConvTranspose2d(*arguments),
        (2, 3, 5, 7),
        dynamic=[declared],
        call=lambda module, x: module(x, output_size=(2, 4, x.shape[2] * 2, x.shape[3] * 2 - 1)),
    )


@pytest.mark.parametrize("size", [(8, 13), (11, 15), (10,), (2, 2, 2, 10, 14)])
def test_output_sizes_that_are_refused(net: Any, size: Any) -> None:
    with pytest.raises(ShapeError, match="output_size is not reachable"):
        nn.ConvTranspose2d(3, 4, 3, 2, 1)(net.input("x", (2, 3, 5, 7)), output_size=size)
