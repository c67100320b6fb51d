"""deform_conv2d from TensorRT's layers, against torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError
from trtnet.plugins.shipped.deform_conv2d.native import deform_conv2d

# input, out channels, groups, offset groups, window, stride, padding, dilation, modulated, biased
CASES = [
    ((2, 6, 7, 9), 8, 1, 1, (3, 3), (1, 1), (1, 1), (1, 1), True, True),
    ((1, 12, 8, 5), 10, 2, 3, (3, 3), (2, 1), (1, 2), (1, 2), True, False),
    ((2, 4, 6, 6), 4, 4, 2, (1, 1), (1, 1), (0, 0), (1, 1), False, True),
    ((1, 4, 5, 1), 4, 1, 4, (2, 3), (1, 3), (0, 1), (1, 1), False, False),
]


@pytest.mark.parametrize("case", CASES)
def test_native_form_is_torchvisions(
    case: tuple[Any, ...], rng: np.random.Generator, check: Callable[..., None]
) -> None:
    size, out, groups, offset_groups, window, stride, padding, dilation, modulated, biased = case
    n, channels, *have = size
    grid = [
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(have, window, stride, padding, dilation, strict=True)
    ]
    entries = offset_groups * window[0] * window[1]

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    weight, bias = normal(out, channels // groups, *window), normal(out) if biased else None
    inputs = [normal(*size), 3 * normal(n, 2 * entries, *grid)]
    dynamic = [("N", channels, "H", "W"), ("N", 2 * entries, "OH", "OW")]
    if modulated:
        inputs.append(rng.random((n, entries, *grid), np.float32))
        dynamic.append(("N", entries, "OH", "OW"))

    def ours(x: trtnet.Tensor, offset: trtnet.Tensor, *mask: trtnet.Tensor) -> trtnet.Tensor:
        return deform_conv2d(x, offset, weight, bias, stride, padding, dilation, *mask)

    def theirs(x: Tensor, offset: Tensor, *mask: Tensor) -> Tensor:
        fixed = [None if a is None else torch.from_numpy(a).to(x.dtype) for a in (weight, bias)]
        return torchvision.ops.deform_conv2d(x, offset, *fixed, stride, padding, dilation, *mask)

    check(ours, theirs, *inputs, dynamic=dynamic, rtol64=1e-11)


def test_far_shifts_sample_zeros(check: Callable[..., None]) -> None:
    """Positions that no 32-bit integer holds."""
    x, weight = np.ones((1, 16, 4, 4), np.float32), np.ones((16, 16, 1, 1), np.float32)
    offset = np.full((1, 2, 4, 4), 1e20, np.float32)
    offset[..., 0] = 0.5
    check(
        lambda x, offset: deform_conv2d(x, offset, weight),
        lambda x, offset: torchvision.ops.deform_conv2d(
            x, offset, torch.from_numpy(weight).to(x.dtype)
        ),
        x,
        offset,
    )


class Block(nn.Module):
    """A deformable convolution with shifts of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Conv2d(4, 27, 3, padding=1)
        self.conv = Deformed(4, 6)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        shift = self.shift(x)
        return self.conv(x, shift[:, :18], shift[:, 18:].sigmoid())


class Deformed(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter.empty((out, channels, 3, 3)),
            nn.Parameter.empty((out,)),
        )

    def forward(
        self, x: trtnet.Tensor, offset: trtnet.Tensor, mask: trtnet.Tensor
    ) -> trtnet.Tensor:
        return deform_conv2d(x, offset, self.weight, self.bias, padding=(1, 1), mask=mask)


class TorchBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Conv2d(4, 27, 3, padding=1)
        self.conv = torchvision.ops.DeformConv2d(4, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        shift = self.shift(x)
        return self.conv(x, shift[:, :18], shift[:, 18:].sigmoid())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_network_with_it_builds_and_verifies(
    precision: str, randomize: Callable[..., Any], build: Callable[..., bytes]
) -> None:
    original, block = randomize(TorchBlock()), Block()
    block.load_state_dict({name: value.numpy() for name, value in original.state_dict().items()})
    net = trtnet.Network("rtx", precision=precision)
    net.output("y", block(net.input("x", ("N", 4, 9, 7))))
    images = np.random.default_rng(5).standard_normal((2, 4, 9, 7)).astype(np.float32)
    verification = trtnet.verify(net, original, {"x": images})
    assert verification.passed, str(verification)
    assert build(net, {"x": images.shape})


def test_channels_that_do_not_fit_are_refused(net: trtnet.Network, raises: Any) -> None:
    x, offset = net.input("x", (1, 4, 5, 5)), net.input("offset", (1, 20, 5, 5))
    with raises(ShapeError, "deform_conv2d", "offset groups * 18"):
        deform_conv2d(x, offset, np.ones((4, 4, 3, 3), np.float32))
