"""pixel_shuffle, pixel_unshuffle and channel_shuffle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn, ops
from trtnet.errors import ShapeError
from trtnet.nn import functional as F

TF = torch.nn.functional


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixels(check: Any, lead: Any, factor: int) -> None:
    names = ("N", "M")[: len(lead)]
    for ours, theirs, shape in (
        (F.pixel_shuffle, TF.pixel_shuffle, (2 * factor**2, 3, 4)),
        (F.pixel_unshuffle, TF.pixel_unshuffle, (2, 3 * factor, 4 * factor)),
    ):
        check(
            lambda x, f=ours: f(x, factor), lambda x, f=theirs: f(x, factor), (*lead, *shape),
            dynamic=[(*names, shape[0], "H", "W")], through_torch=True,
        )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_channels(check: Any, groups: int, dtype: Any) -> None:
    x = np.arange(2 * 6 * 4 * 5).reshape(2, 6, 4, 5).astype(dtype)
    for ours, theirs in (
        (F.channel_shuffle, TF.channel_shuffle),
        (ops.native_channel_shuffle, torch.native_channel_shuffle),
    ):
        check(
            lambda x, f=ours: f(x, groups), lambda x, f=theirs: f(x, groups), x,
            dynamic=[("N", 6, "H", "W")], through_torch=True,
        )  # fmt: skip
        check(lambda x, f=ours: f(x, groups), lambda x, f=theirs: f(x, groups), x[:, :, 0])


def test_layers(check_module: Any) -> None:
    for ours, argument in ((nn.PixelShuffle, 2), (nn.PixelUnshuffle, 2), (nn.ChannelShuffle, 4)):
        theirs = getattr(torch.nn, ours.__name__)(argument)
        check_module(ours(argument), theirs, (1, 8, 4, 6), dynamic=[("N", 8, "H", 6)])


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (1, 6, 5, 4))
    with raises(ShapeError, "pixel_shuffle", "k * 4"):
        F.pixel_shuffle(x, 2)
    with raises(ShapeError, "pixel_unshuffle: height and width", "multiples of 2"):
        F.pixel_unshuffle(x, 2)
    with raises(ShapeError, "positive int"):
        F.pixel_unshuffle(x, 0)
    with raises(ShapeError, "groups must divide", "4"):
        F.channel_shuffle(x, 4)
    with raises(ShapeError, "rank 3 or more"):
        F.pixel_shuffle(net.input("y", (4, 4)), 2)
