"""Sorting, searching and membership against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

RANDOM = np.random.default_rng(11)
X = RANDOM.standard_normal((4, 5, 6)).astype(np.float32)
INTS = RANDOM.permutation(120).reshape(4, 5, 6) + 2**60
TIES = RANDOM.integers(-2, 3, (4, 5, 6))
SPECIAL = np.array(
    [[3, np.nan, -np.inf, np.inf, 1], [-np.inf, 2, np.nan, np.nan, 2], [0.0, -0.0, 1, -1, 5]],
    np.float32,
)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.sort(x),
        lambda x: torch.sort(x, 0, descending=True),
        lambda x: torch.sort(x, dim=1, stable=True),
        lambda x: x.sort(0, True),
        lambda x: x.sort(descending=True, stable=True),
        lambda x: torch.argsort(x, 1),
        lambda x: x.argsort(dim=-1, descending=True, stable=True),
        lambda x: torch.msort(x),
        lambda x: torch.topk(x, 3),
        lambda x: torch.topk(x, 4, dim=0, largest=False, sorted=True),
        lambda x: x.topk(2, 1).values,
        lambda x: torch.kthvalue(x, 2),
        lambda x: torch.kthvalue(x, 5, 1, True),
        lambda x: x.kthvalue(k=1, dim=0).indices,
        lambda x: torch.median(x),
        lambda x: torch.median(x, 0),
        lambda x: x.median(dim=1, keepdim=True),
        lambda x: x.median(-1).values,
    ],
)
def test_order(check: Any, function: Any) -> None:
    for x in (X, INTS):
        check(function, function, x, dynamic=[("N", "C", "W")], through_torch=True)
    check(function, function, (INTS - 2**60).astype(np.int32), build=False)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.int8, bool])
def test_ties(check: Any, dtype: Any) -> None:
    x = TIES.astype(dtype)
    for function in (
        lambda x: torch.sort(x, dim=1, stable=True),
        lambda x: torch.sort(x, dim=-1, descending=True, stable=True),
        lambda x: torch.sort(x, 1)[0],
        lambda x: torch.gather(x, 2, torch.sort(x, 2).indices),
        lambda x: x.topk(3, 1).values,
        lambda x: x.gather(0, x.topk(2, 0, False).indices),
    ):
        if dtype is not bool or "topk" not in function.__code__.co_names:  # not on PyTorch's CPU
            check(function, function, x, dynamic=[("N", "C", "W")], build=dtype is np.float32)


def test_special_values(check: Any) -> None:
    for function in (
        lambda x: x.sort(dim=1, stable=True),
        lambda x: torch.sort(x, dim=0, descending=True, stable=True),
        lambda x: x.median(1),
        lambda x: x.median(),
        lambda x: x.kthvalue(2, 1).values,
        lambda x: x.topk(2, 1).values,
    ):
        check(function, function, SPECIAL, dynamic=[("N", "C")], build=False)


@pytest.mark.parametrize("shape", [(), (1,), (7,)])
def test_scalars_and_vectors(check: Any, shape: tuple[int, ...]) -> None:
    x = RANDOM.standard_normal(shape).astype(np.float32)
    for function in (
        lambda x: x.sort(0),
        lambda x: x.topk(1),
        lambda x: x.topk(0),
        lambda x: x.median(),
        lambda x: x.kthvalue(1),
        lambda x: x.median(0, True),
    ):
        check(function, function, x, build=False)


@pytest.mark.parametrize("k", [3841, 9000])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_more_than_tensorrt_takes(check: Any, dtype: Any, k: int) -> None:
    x = RANDOM.integers(-500, 500, (2, 9000)).astype(dtype)
    if dtype is np.float32:
        x[0, ::700], x[0, 5::900], x[1, 1::800] = np.nan, np.inf, -np.inf
    for largest in (False, True):
        check(
            lambda x, b=largest: (x.topk(k, 1, b).values, x.gather(1, x.topk(k, 1, b).indices)),
            lambda x, b=largest: (torch.topk(x, k, 1, b)[0],) * 2,
            x,
            dynamic=[("N", 9000)],
            build=k == 9000 and dtype is np.int64,
        )
    check(
        lambda x: x.sort(dim=0, stable=True),
        lambda x: x.sort(dim=0, stable=True),
        np.ascontiguousarray(x.T),
        build=False,
    )


def test_counts_that_are_sizes(check: Any) -> None:
    for function in (
        lambda x, y: x.topk(y.shape[0], 1),
        lambda x, y: x.kthvalue(y.shape[0] - 1, 0),
    ):
        check(function, function, (4, 5), (3,), dynamic=[("N", "C"), ("K",)])


@pytest.mark.parametrize("right", [False, True])
def test_searching(check: Any, right: bool) -> None:
    bounds = np.array([-1.5, -0.5, -0.5, 0.25, 2], np.float32)
    x = np.concatenate([X.reshape(-1)[:20], bounds, [np.nan, np.inf, -np.inf]]).astype(np.float32)
    x = x.reshape(4, 7)
    check(
        lambda x: (ops.bucketize(x, bounds, right=right), x.bucketize(bounds, out_int32=True)),
        lambda x: (
            torch.bucketize(x, torch.tensor(bounds), right=right),
            torch.bucketize(x, torch.tensor(bounds), out_int32=True),
        ),
        x,
        dynamic=[("N", "W")],
    )
    check(
        lambda b, x: (
            torch.searchsorted(b, x, right=right, out_int32=True),
            torch.searchsorted(b[0], x, side="right" if right else "left"),
            torch.bucketize(x, b[0], right=right),
        ),
        lambda b, x: (
            torch.searchsorted(b, x, right=right, out_int32=True),
            torch.searchsorted(b[0].contiguous(), x, side="right" if right else "left"),
            torch.bucketize(x, b[0].contiguous(), right=right),
        ),
        np.sort(RANDOM.standard_normal((4, 9)).astype(np.float32)),
        x,
        dynamic=[("N", "B"), ("N", "W")],
    )
    order = np.argsort(TIES, -1)
    check(
        lambda b, x: ops.searchsorted(b, x, right=right, sorter=order),
        lambda b, x: torch.searchsorted(b, x, right=right, sorter=torch.tensor(order)),
        TIES,
        TIES[:, :, :2] + 2,
        dynamic=[(4, 5, "B"), (4, 5, "W")],
        build=False,
    )


def test_membership(check: Any) -> None:
    tests = np.array([[1, -2], [7, 1]])
    for x in (TIES, TIES.astype(np.float32)):
        check(
            lambda x, t: (ops.isin(x, t), ops.isin(x, tests, invert=True), ops.isin(x, 1)),
            lambda x, t: (
                torch.isin(x, t.to(x.dtype)),
                torch.isin(x, torch.tensor(tests), invert=True),
                torch.isin(x, 1),
            ),
            x,
            tests,
            dynamic=[("N", "C", 6), ("K", 2)],
        )


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (2, "W"))
    with raises(UnsupportedError, "size is known only at run time", "<= 3840", "got: 4000"):
        x.topk(4000)
    with raises(ShapeError, "topk: k does not fit the axis", "at most 2", "got: 3"):
        x.topk(3, 0)
    with raises(ShapeError, "kthvalue: k does not fit", "at least 1, at most 2", "got: 0"):
        x.kthvalue(0, 0)
    with raises(UnsupportedError, "the axis is too long"):
        net.input("long", (1, 2**21)).sort()
    with raises(UnsupportedError, "depends on the data"):
        x.unique(return_inverse=True)
    with raises(UnsupportedError, "side"):
        ops.searchsorted([1.0], x, side="right ")
    with raises(ShapeError, "one vector, or one for each row"):
        ops.searchsorted(np.ones((3, 2)), x)
