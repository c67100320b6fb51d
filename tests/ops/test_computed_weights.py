"""Convolutions and linear maps whose weight or bias is a tensor; inputs without a batch axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional
OURS = {
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv3d": F.conv3d,
    "conv_transpose1d": F.conv_transpose1d,
    "conv_transpose2d": F.conv_transpose2d,
    "conv_transpose3d": F.conv_transpose3d,
}


@pytest.mark.parametrize(
    ("name", "size", "weight", "options"),
    [
        ("conv1d", (9,), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
        ("conv1d", (7,), (6, 4, 4), {"padding": "same", "dilation": 2}),
        ("conv2d", (7, 5), (6, 4, 3, 2), {"stride": (2, 1), "padding": (0, 3)}),
        ("conv2d", (7, 5), (6, 2, 1, 3), {"groups": 2, "dilation": (1, 2)}),
        ("conv2d", (7, 5), (6, 4, 2, 4), {"padding": "same", "dilation": (1, 3)}),
        ("conv2d", (7, 5), (4, 1, 2, 2), {"groups": 4, "stride": 4, "padding": "valid"}),
        ("conv3d", (4, 3, 5), (2, 4, 2, 1, 3), {"padding": (1, 0, 2)}),
        ("conv_transpose1d", (7,), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ("conv_transpose1d", (7,), (4, 3, 3), {"stride": 3, "groups": 2, "dilation": 2}),
        ("conv_transpose2d", (4, 3), (4, 3, 3, 2), {"stride": (2, 3), "padding": (1, 0)}),
        ("conv_transpose2d", (4, 3), (4, 1, 3, 3), {"stride": 2, "dilation": (2, 1), "groups": 4}),
        ("conv_transpose2d", (4, 3), (4, 3, 2, 2), {"stride": 3, "output_padding": (2, 0)}),
        ("conv_transpose3d", (2, 3, 4), (4, 2, 2, 1, 3), {"stride": (1, 2, 1), "padding": 0}),
    ],
)
def test_convolution(check: Any, rng: Any, name: str, size: Any, weight: Any, options: Any) -> None:
    """The weight, the bias, or both are inputs; both batched and not."""
    ours, theirs = OURS[name], getattr(TF, name)
    groups = options.get("groups", 1)
    outputs = weight[1] * groups if "transpose" in name else weight[0]
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (weight, (outputs,))]
    axes = "DHW"[: len(size)]

    def constant(array: Any, like: Any) -> Any:
        return torch.from_numpy(array).to(like.dtype) if isinstance(like, torch.Tensor) else array

    for x, dynamic in (((2, 4, *size), ("N", 4, *axes)), ((4, *size), (4, *axes))):
        check(
            lambda x, w, b: ours(x, w, b, **options),
            lambda x, w, b: theirs(x, w, b, **options),
            x,
            *arrays,
            dynamic=[dynamic, weight, (outputs,)],
            through_torch=True,
        )
        check(
            lambda x, w: ours(x, w, constant(arrays[1], x), **options),
            lambda x, w: theirs(x, w, constant(arrays[1], x), **options),
            x,
            arrays[0],
            dynamic=[dynamic, weight],
        )
        check(
            lambda x, b: ours(x, constant(arrays[0], x), b, **options),
            lambda x, b: theirs(x, constant(arrays[0], x), b, **options),
            x,
            arrays[1],
            dynamic=[dynamic, (None,)],
        )
        check(
            lambda x: ours(x, constant(arrays[0], x), **options),
            lambda x: theirs(x, constant(arrays[0], x), **options),
            x,
            dynamic=[dynamic],
        )


def test_a_kernel_for_each_image(check: Any) -> None:
    """The usual trick: the batch becomes groups."""

    def modulated(f: Any) -> Any:
        def call(x: Any, w: Any) -> Any:
            b, c, h, width = x.shape
            grouped = w.reshape(b * w.shape[1], c, 3, 3)
            out = f.conv2d(x.reshape(1, b * c, h, width), grouped, padding=1, groups=b)
            return out.reshape(b, w.shape[1], h, width)

        return call

    check(
        modulated(F), modulated(TF), (2, 3, 5, 4), (2, 4, 3, 3, 3),
        dynamic=[(2, 3, "H", "W"), (2, 4, 3, 3, 3)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "weight"), [((2, 5, 4), (3, 4)), ((4,), (3, 4)), ((2, 4), (1, 4))]
)
def test_linear(check: Any, shape: Any, weight: Any) -> None:
    dynamic: Any = [("N", None, 4)[-len(shape) :], ("O", 4), (None,)]
    check(F.linear, TF.linear, shape, weight, (weight[0],), dynamic=dynamic, through_torch=True)
    check(F.linear, TF.linear, shape, weight, through_torch=True, dynamic=dynamic[:2])
    fixed = np.ones(weight, np.float32)

    def torch_linear(x: Any, b: Any) -> Any:
        return TF.linear(x, torch.from_numpy(fixed).to(x.dtype), b)

    check(lambda x, b: F.linear(x, fixed, b), torch_linear, shape, (weight[0],))
    fixed_bias = np.arange(weight[0], dtype=np.float32)
    check(
        lambda x, w: F.linear(x, w, fixed_bias),
        lambda x, w: TF.linear(x, w, torch.from_numpy(fixed_bias).to(x.dtype)),
        shape,
        weight,
    )


def test_linear_with_a_vector(check: Any) -> None:
    check(F.linear, TF.linear, (2, 3, 4), (4,), dynamic=[("N", 3, 4), (4,)], through_torch=True)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(check: Any, precision: str) -> None:
    tolerance = {"fp16": 5e-3, "bf16": 4e-2}[precision]
    for name, weight in (("conv2d", (6, 4, 3, 3)), ("conv_transpose2d", (4, 6, 3, 3))):
        check(
            OURS[name], getattr(TF, name), (2, 4, 5, 5), weight, (6,),
            precision=precision, rtol=tolerance, rtol64=tolerance,
        )  # fmt: skip


def test_a_computed_weight_is_not_quantized() -> None:
    net = trtnet.Network("rtx", precision="int8")
    x, w = net.input("x", (1, 4, 5, 5)), net.input("w", (6, 4, 3, 3))
    net.output("y", F.conv2d(x, w))
    assert not net.observed


def test_conv_transpose1d(check_module: Any) -> None:
    options = {"stride": 3, "padding": 2, "output_padding": 1, "dilation": 2}
    ours, theirs = (
        nn.ConvTranspose1d(4, 6, 3, **options),
        torch.nn.ConvTranspose1d(4, 6, 3, **options),
    )
    check_module(ours, theirs, (2, 4, 5), dynamic=[("N", 4, "L")])
    folded = nn.Sequential(ours, nn.BatchNorm1d(6))
    check_module(
        folded, torch.nn.Sequential(theirs, torch.nn.BatchNorm1d(6)), (2, 4, 5), rtol64=1e-6
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_modules_without_batch(check_module: Any, rank: int) -> None:
    sizes, axes = (5, 4, 3)[:rank], "DHW"[:rank]
    for kind, options in (
        ("Conv", {"stride": 2, "padding": 1}),
        ("ConvTranspose", {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
        ("ConvTranspose", {"stride": 2, "dilation": 2, "bias": False}),
    ):
        name = f"{kind}{rank}d"
        modules = [getattr(module, name)(4, 6, 3, **options) for module in (nn, torch.nn)]
        check_module(*modules, (2, 4, *sizes), dynamic=[("N", 4, *axes)])
        check_module(*modules, (4, *sizes), dynamic=[(4, *axes)])


def test_sizes_are_formulas(net: Any) -> None:
    """Downstream code compares and adds them."""
    x = net.input("x", ("N", 4, "H", "W"))
    same = F.conv2d(x, np.ones((6, 4, 3, 3), np.float32), padding=1)
    assert same.shape[2:] == x.shape[2:]
    doubled = F.conv_transpose2d(x, np.ones((4, 6, 2, 2), np.float32), stride=2)
    assert doubled.shape[2:] == (x.shape[2] * 2, x.shape[3] * 2)
    pooled = F.max_pool2d(x, 3, 1, 1)
    assert pooled.shape[2:] == x.shape[2:]


WEIGHT = np.ones((2, 1, 3, 3), np.float32)


@pytest.mark.parametrize("call", [
    lambda f, x, w: f.conv2d(x, w, stride=0),
    lambda f, x, w: f.conv2d(x, w, padding=-1),
    lambda f, x, w: f.conv2d(x, w, dilation=0),
    lambda f, x, w: f.conv2d(x, w, groups=0),
    lambda f, x, w: f.conv2d(x, w, groups=3),
    lambda f, x, w: f.conv2d(x, w, padding="same", stride=2),
    lambda f, x, w: f.conv2d(x, w, dilation=3),
    lambda f, x, w: f.conv1d(x, w),
    lambda f, x, w: f.conv_transpose2d(x, w, stride=0),
    lambda f, x, w: f.conv_transpose2d(x, w, padding=-1),
    lambda f, x, w: f.conv_transpose2d(x, w, output_padding=1),
    lambda f, x, w: f.conv_transpose2d(x, w, padding=9),
    lambda f, x, w: f.conv_transpose2d(x, w, groups=2),
])  # fmt: skip
def test_what_pytorch_refuses(net: Any, call: Any) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        call(TF, torch.zeros(1, 1, 5, 5), torch.ones(2, 1, 3, 3))
    x = net.input("x", (1, 1, 5, 5))
    for weight in (WEIGHT, net.input("w", (2, 1, 3, 3))):
        with pytest.raises(ShapeError):
            call(F, x, weight)


def test_what_trtnet_refuses(net: Any, raises: Any) -> None:
    x, w = net.input("x", (1, 1, 5, 5)), net.input("w", (2, 1, "k", 3))
    with raises(ShapeError, "conv2d: the weight needs 4 axes of fixed sizes", "k"):
        F.conv2d(x, w)
    with raises(UnsupportedError, "unknown padding 'full'"):
        F.conv2d(x, WEIGHT, padding="full")


@pytest.mark.parametrize(
    ("shape", "slopes"),
    [((2, 3, 4, 5), (3,)), ((2, 3, 4), (1,)), ((2, 3), (3,)), ((4,), (1,)), ((2, 3), ())],
)
def test_prelu(check: Any, shape: Any, slopes: Any) -> None:
    axes: Any = ("N", 3, None, "W")[: len(shape)] if len(shape) > 1 else ("L",)
    check(F.prelu, TF.prelu, shape, slopes, dynamic=[axes, slopes], through_torch=True)


@pytest.mark.parametrize("kind", [
    nn.LazyLinear, nn.LazyConv1d, nn.LazyConv2d, nn.LazyConv3d,
    nn.LazyConvTranspose1d, nn.LazyConvTranspose2d, nn.LazyConvTranspose3d,
])  # fmt: skip
def test_lazy_layers_are_refused(raises: Any, kind: Any) -> None:
    with raises(UnsupportedError, "no weights before its first call", f"nn.{kind.__name__[4:]}"):
        kind(3)
