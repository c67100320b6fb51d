"""Padding in every mode: negative and dynamic amounts, types, layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "amounts",
    [(1, 2, 0, 3), (2, 0, 0, 0), (0, 0, 0, 0), (-1, 2, 1, -2), (-2, -1, -1, 0), (2, -3, 2, 2)],
)
def test_modes(check: Any, mode: str, amounts: Any) -> None:
    for shape, dynamic in (((2, 3, 4, 5), ("N", 3, "H", "W")), ((3, 4, 5), (3, None, "W"))):
        check(
            lambda x: F.pad(x, amounts, mode), lambda x: TF.pad(x, amounts, mode), shape,
            dynamic=[dynamic], through_torch=True,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("value", [None, 0, 1, -3.0])
def test_constants(check: Any, dtype: Any, value: Any) -> None:
    x = (np.arange(6).reshape(2, 3) % 4).astype(dtype)
    for amounts in ((1, 0, -1, 2), (0, 3), (-1, -1), (1, 1, 1, 1)):
        check(
            lambda x, a=amounts: F.pad(x, a, value=value),
            lambda x, a=amounts: TF.pad(x, a, value=value),
            x,
            dynamic=[("N", "C")],
            through_torch=True,
        )


def test_infinite_values_and_large_integers(check: Any) -> None:
    check(
        lambda x: F.pad(x, (1, 2), value=-np.inf),
        lambda x: TF.pad(x, (1, 2), value=-np.inf),
        (2, 3),
    )
    big = 2**40 + 1
    x = np.array([[big, -big]], np.int64)
    check(lambda x: F.pad(x, (1, 0), value=big), lambda x: TF.pad(x, (1, 0), value=big), x)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_dynamic_amounts(check: Any, mode: str) -> None:
    """To a multiple of a window, as attention in windows needs it."""

    def padded(f: Any) -> Any:
        def call(x: Any, y: Any) -> Any:
            h, w = x.shape[2], x.shape[3]
            below, right = (h + 3) // 4 * 4 - h, (w + 3) // 4 * 4 - w
            return f.pad(x, (0, right, below, 0), mode)

        return call

    check(padded(F), padded(TF), (2, 3, 6, 7), (1,), dynamic=[("N", 3, "H", "W"), (1,)])
    check(
        lambda x, y: F.pad(x, (0, y.shape[0])), lambda x, y: TF.pad(x, (0, y.shape[0])),
        (2, 3), (4,), dynamic=[(2, 3), ("M",)],
    )  # fmt: skip


def test_sizes_are_formulas(net: Any) -> None:
    x = net.input("x", ("N", 3, "H"))
    assert F.pad(x, (1, 2)).shape[2] == x.shape[2] + 1 + 2


@pytest.mark.parametrize("ours", [
    nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
    nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
])  # fmt: skip
def test_layers(check_module: Any, ours: Any) -> None:
    name, rank = ours.__name__, int(ours.__name__[-2])
    sizes, axes = (4, 5, 6)[:rank], "DHW"[:rank]
    for amounts in (1, (2, 0, 1, 3, 2, 2)[: 2 * rank]):
        options = (amounts, 3.5) if "Constant" in name else (amounts,)
        pair = ours(*options), getattr(torch.nn, name)(*options)
        check_module(*pair, (2, 3, *sizes), dynamic=[("N", 3, *axes)])
        check_module(*pair, (3, *sizes), dynamic=[(3, *axes)])


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (1, 2, 4))
    with raises(ShapeError, "two amounts per axis"):
        F.pad(x, (1,))
    with raises(ShapeError, "two amounts per axis", "at most 6 ints"):
        F.pad(x, (1.5, 2))
    with raises(ShapeError, "reflect padding does not fit", "0 to 3 on axis 2"):
        F.pad(x, (4, 0), "reflect")
    with raises(ShapeError, "circular padding does not fit", "0 to 4"):
        F.pad(x, (5, 0), "circular")
    with raises(ShapeError, "crops more than there is"):
        F.pad(x, (-2, -3))
    with raises(UnsupportedError, "unknown mode 'wrap'", "circular"):
        F.pad(x, (1, 1), "wrap")
    with raises(UnsupportedError, "'reflect' takes no value"):
        F.pad(x, (1, 1), "reflect", 2.0)
