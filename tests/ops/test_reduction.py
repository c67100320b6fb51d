"""Sums, means, extremes and positions against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

TIES = np.array([[3, 1, 3, 2, 1], [0, 0, 0, 0, 0], [-1, -2, -1, -2, -3]], np.float32)
INTEGERS = np.array([[1, -2, 3], [4, 5, -6]])


@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2), (-1, 1), (0, 1, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ops.sum, torch.sum),
        (ops.mean, torch.mean),
        (ops.amax, torch.amax),
        (ops.amin, torch.amin),
    ],
)
def test_reductions(check: Any, ours: Any, theirs: Any, dim: Any, keepdim: bool) -> None:
    axes = (0, 1, 2) if dim is None else dim
    check(
        lambda x: ours(x, dim, keepdim),
        lambda x: theirs(x, axes, keepdim),
        (3, 4, 5),
        dynamic=[("N", 4, "W")],
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_prod(check: Any, dim: int) -> None:
    check(lambda x: ops.prod(x, dim), lambda x: x.prod(dim), (3, 1, 5), dynamic=[("N", 1, "W")])
    check(ops.prod, torch.prod, (2, 3))


@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin", "max", "min", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers(check: Any, name: str, dtype: Any) -> None:
    def run(x: Any) -> Any:
        return getattr(x, name)(1)

    check(
        run, lambda x: tuple(run(x)) if name in ("max", "min") else run(x), INTEGERS.astype(dtype)
    )


def test_booleans_are_counted(check: Any) -> None:
    check(ops.sum, torch.sum, np.array([[True, False, True]]))
    check(lambda x: ops.sum(x, 1), lambda x: x.sum(1), np.array([[True, True], [True, False]]))


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_max_and_min_along_a_dim(check: Any, dim: int, keepdim: bool) -> None:
    dynamic = [("N", "W")]
    check(
        lambda x: ops.max(x, dim, keepdim),
        lambda x: tuple(x.max(dim, keepdim)),
        (3, 7),
        dynamic=dynamic,
    )
    check(
        lambda x: ops.min(x, dim, keepdim),
        lambda x: tuple(x.min(dim, keepdim)),
        (3, 7),
        dynamic=dynamic,
    )


def test_max_and_min_without_dim_and_of_two_tensors(check: Any) -> None:
    check(ops.max, torch.max, (2, 3, 4))
    check(ops.min, torch.min, (2, 3, 4))
    check(ops.max, torch.max, (2, 3), (3,))
    check(ops.min, torch.min, (2, 3), (2, 1))


@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_of_equal_values_the_first_counts(check: Any, dim: Any, keepdim: bool) -> None:
    for ours, theirs in ((ops.argmax, np.argmax), (ops.argmin, np.argmin)):
        wanted = torch.tensor(theirs(TIES, axis=dim, keepdims=keepdim and dim is not None))
        given = keepdim and dim is not None
        check(
            lambda x, f=ours, k=given: f(x, dim, k),
            lambda x, w=wanted: w,
            TIES,
            dynamic=[("N", "W")],
        )


def test_argmax_of_one_axis(check: Any) -> None:
    check(ops.argmax, torch.argmax, (7,), dynamic=[("N",)])
    check(lambda x: ops.argmin(x, 0, True), lambda x: x.argmin(0, True), (7,))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dim", [-1, 0, 1])
@pytest.mark.parametrize("largest", [True, False])
def test_topk(check: Any, k: int, dim: int, largest: bool) -> None:
    check(
        lambda x: ops.topk(x, k, dim, largest),
        lambda x: tuple(x.topk(k, dim, largest)),
        (5, 6, 7),
        dynamic=[("N", "H", "W")],
    )
    if dim == -1:
        check(lambda x: ops.topk(x, k), lambda x: tuple(x.topk(k)), (9,))


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 5000))
    with raises(ShapeError, "topk", "at most 2", "got: 3"):
        ops.topk(x, 3, 0)
    with raises(UnsupportedError, "floating-point", "x.float().mean()"):
        ops.mean(net.input("i", (2, 3), "int64"))
    with raises(ShapeError, "sum: dim is out of range", "-2 to 1", "got: 2"):
        ops.sum(x, 2)
    with raises(ShapeError, "a dim is given twice"):
        ops.mean(x, (0, -2))
