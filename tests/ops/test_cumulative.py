"""Running sums, products, extremes and log-sums against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import UnsupportedError

INTS = (np.arange(60).reshape(3, 4, 5) * 7 % 11 - 4).astype(np.int64)
SPECIAL = np.array(
    [
        [1, np.nan, 2, -1, 0],
        [np.inf, -np.inf, 3, 3, np.inf],
        [-np.inf, -np.inf, -0.0, 0.0, 5],
        [2, 1, 2, 1, 2],
    ],
    np.float32,
)
BOTH = ["cumsum", "cumprod", "logcumsumexp"]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_floats(check: Any, name: str, dim: int) -> None:
    function = getattr(torch, name)
    dynamic = [("N", "C", "W")]
    check(
        lambda x: getattr(x, name)(dim),
        lambda x: function(x, dim),
        (3, 4, 5),
        dynamic=dynamic,
        through_torch=True,
    )
    check(
        lambda x: getattr(x, name)(dim=dim) * 1,
        lambda x: function(x, dim=dim) * 1,
        (1, 17, 1),
        dynamic=[("N", 17, 1)],
        through_torch=True,
    )


@pytest.mark.parametrize("name", BOTH)
def test_special_values(check: Any, name: str) -> None:
    function = getattr(torch, name)
    for dim in (0, 1):
        check(
            lambda x, d=dim: getattr(x, name)(d),
            lambda x, d=dim: function(x, d),
            SPECIAL,
            dynamic=[("N", "C")],
        )


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, bool])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_integers(check: Any, name: str, dtype: Any) -> None:
    x = (INTS + (2**58 if dtype is np.int64 else 0)).astype(dtype)
    function = getattr(torch, name)
    build = dtype is not np.int8
    check(
        lambda x: getattr(x, name)(1),
        lambda x: function(x, 1),
        x,
        dynamic=[("N", "C", 5)],
        build=build,
        through_torch=True,
    )


def test_dtypes(check: Any) -> None:
    for dtype in (torch.float32, torch.int32):
        check(
            lambda x, d=dtype: (x.cumsum(1, dtype=d), x.cumprod(1, dtype=d)),
            lambda x, d=dtype: (torch.cumsum(x, 1, dtype=d), torch.cumprod(x, 1, dtype=d)),
            INTS,
            through_torch=True,
        )


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_extremes(check: Any, name: str, dim: int) -> None:
    function = getattr(torch, name)
    for x in (INTS, INTS.astype(np.int32), INTS.astype(np.float32), INTS > 2, SPECIAL):
        at = dim % x.ndim
        shape = [size if i == at else f"D{i}" for i, size in enumerate(x.shape)]
        check(
            lambda x: getattr(x, name)(dim),
            lambda x: tuple(function(x, dim)),
            x,
            dynamic=[shape],
        )
        check(
            lambda x: (getattr(x, name)(dim).values, getattr(x, name)(dim=dim).indices),
            lambda x: (function(x, dim).values, function(x, dim=dim).indices),
            x,
            build=False,
            through_torch=True,
        )


def test_scalars(check: Any) -> None:
    check(
        lambda x: (x.cumsum(0), x.cumprod(-1), x.logcumsumexp(0), *x.cummax(0), *x.cummin(-1)),
        lambda x: (x.cumsum(0), x.cumprod(-1), x.logcumsumexp(0), *x.cummax(0), *x.cummin(-1)),
        np.array(2.5, np.float32),
        build=False,
    )


def test_half_precision_sums_in_float32() -> None:
    half = trtnet.Network("rtx", precision="fp16")
    x = np.full((1, 4096), 1, np.float32)
    summed = trtnet.nn.functional.relu(half.input("x", x.shape)).cumsum(1)
    half.output("y", summed[:, -1])
    assert trtnet.reference.run(half.definition, {"x": x})["y"] == 4096


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", ("N", 6))
    for name in ("cummax", "cummin"):
        with raises(UnsupportedError, "known only at run time", "N on axis 0"):
            getattr(x, name)(0)
    with raises(UnsupportedError, "needs a floating-point tensor"):
        x.int().logcumsumexp(1)
