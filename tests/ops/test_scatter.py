"""Values written at index positions and under masks against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((4, 5, 6)).astype(np.float32)
INTS = RANDOM.integers(-9, 9, (4, 5, 6)) + 2**57


def unique(shape: tuple[int, ...], axis: int, size: int) -> np.ndarray:
    """Indices below `size` without duplicates along `axis`."""
    wide = [size if i == axis else n for i, n in enumerate(shape)]
    return np.argsort(RANDOM.random(wide), axis).take(range(shape[axis]), axis)


@pytest.mark.parametrize("x", [X, INTS, INTS.astype(np.int32), INTS > 2**57])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_scatter(check: Any, x: np.ndarray, dim: int) -> None:
    index = unique((2, 3, 2), dim % 3, x.shape[dim])
    source = RANDOM.integers(0, 2, (3, 3, 4)).astype(x.dtype)
    dynamic = [("N", "C", "W"), ("A", "B", "D"), (3, 3, "E")]
    check(
        lambda x, i, s: x.scatter(dim, i, s),
        lambda x, i, s: torch.scatter(x, dim, i, s.to(x.dtype)),
        x,
        index,
        source,
        dynamic=dynamic,
        through_torch=True,
    )


def test_scatter_of_one_value(check: Any) -> None:
    index = RANDOM.integers(0, 5, (4, 9, 6))  # more indices than positions
    values = np.full((4, 9, 6), 7.0)
    for ours, theirs in (
        (lambda x, i: x.scatter(1, i, 2.5), lambda x, i: x.scatter(1, i, 2.5)),
        (
            lambda x, i: x.scatter(1, i, values),
            lambda x, i: x.scatter(1, i, torch.tensor(values).to(x)),
        ),
        (
            lambda x, i: ops.scatter(x, 1, i, value=-1),
            lambda x, i: torch.scatter(x, 1, i, value=-1),
        ),
    ):
        check(ours, theirs, X, index, dynamic=[("N", "C", 6), (4, "K", 6)])
    rows = [[0], [2]]
    check(lambda x: x.scatter(1, rows, 1), lambda x: x.scatter(1, torch.tensor(rows), 1), (2, 3))
    check(lambda x: x.scatter(0, np.zeros((0, 3), int), x), lambda x: x * 1, (2, 3), build=False)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("x", [X, INTS - 2**57, (INTS - 2**57).astype(np.int32)])
def test_scatter_reduce(check: Any, x: np.ndarray, reduce: str, include_self: bool) -> None:
    for dim, shape in ((1, (3, 7, 4)), (0, (4, 5, 6)), (-1, (1, 2, 3))):
        index = RANDOM.integers(0, min(x.shape[dim], 3), shape)
        source = (RANDOM.standard_normal((4, 7, 6)) * 3).astype(x.dtype)
        check(
            lambda x, i, s, d=dim: x.scatter_reduce(d, i, s, reduce, include_self=include_self),
            lambda x, i, s, d=dim: torch.scatter_reduce(
                x, d, i, s.to(x.dtype), reduce, include_self=include_self
            ),
            x,
            index,
            source,
            dynamic=[("N", "C", "W"), ("A", "B", "D"), (4, 7, "E")],
            build=dim == 1 and reduce in ("sum", "mean"),
            through_torch=dim == 0,
        )


def test_scatter_add_keeps_infinities_apart(check: Any) -> None:
    source = np.array([np.inf, 1, np.nan, 2, -np.inf], np.float32)
    index = np.array([0, 1, 2, 1, 3])
    for function in (
        lambda x, i, s: torch.scatter_add(x, 0, i, s),
        lambda x, i, s: x.scatter_add(0, i, s),
        lambda x, i, s: x.scatter(0, i, s, reduce="add"),
        lambda x, i, s: torch.scatter(x, 0, i, s, reduce="multiply"),
    ):
        check(function, function, (5,), index, source, dynamic=[("N",), ("K",), ("K",)])


@pytest.mark.parametrize("x", [X, INTS, INTS.astype(np.int32)])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_index_functions(check: Any, x: np.ndarray, dim: int) -> None:
    size = x.shape[dim]
    index = RANDOM.permutation(size)[:3]
    twice = np.array([1, 0, 1])
    source = RANDOM.integers(-5, 5, [3 if i == dim % 3 else n for i, n in enumerate(x.shape)])
    source = source.astype(x.dtype)
    shape = ["K" if i == dim % 3 else n for i, n in enumerate(source.shape)]
    axes = ["N" if i == dim % 3 else n for i, n in enumerate(x.shape)]
    dynamic = [axes, ("K",), shape]
    for name, at, more in (
        ("index_add", twice, {}),
        ("index_add", twice, {"alpha": -2}),
        ("index_copy", index, {}),
        ("index_reduce", twice, {"reduce": "amax"}),
        ("index_reduce", twice, {"reduce": "mean", "include_self": False}),
    ):
        function = getattr(torch, name)
        for constant in (False, True):
            arrays = (x, source) if constant else (x, at, source)
            check(
                lambda x, *s, f=name, a=at, m=more: getattr(x, f)(
                    dim, *([a, *s] if len(s) == 1 else s), **m
                ),
                lambda x, *s, f=function, a=at, m=more: f(
                    x, dim, *([torch.tensor(a), *s] if len(s) == 1 else s), **m
                ),
                *arrays,
                dynamic=dynamic[::2] if constant else dynamic,
                build=x is X and dim == 1,
                through_torch=constant,
            )  # fmt: skip


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_index_fill(check: Any, dim: int) -> None:
    index = np.array([-1, 0, 0])
    axes = ["N" if i == dim % 3 else n for i, n in enumerate(X.shape)]
    for x, value in ((X, 0.5), (INTS, 7), (INTS > 2**57, True), (X, -np.inf)):
        check(
            lambda x, i, v=value: x.index_fill(dim, i, v),
            lambda x, i, v=value: torch.index_fill(x, dim, i, v),
            x,
            index,
            dynamic=[axes, ("K",)],
            build=dim == 1,
            through_torch=True,
        )
        check(
            lambda x, v=value: x.index_fill(dim, [2, -1], v),
            lambda x, v=value: torch.index_fill(x, dim, torch.tensor([2, -1]), v),
            x,
            dynamic=[axes],
            build=dim == 1,
        )


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("x", [X, INTS])
def test_index_put(check: Any, x: np.ndarray, accumulate: bool) -> None:
    i, j = np.array([[0, 3], [1, -1]]), np.array([[2], [4]])
    if accumulate:
        i = i * 0 + 1
    v = RANDOM.integers(-3, 3, (2, 2, 6)).astype(x.dtype)
    dynamic = [("N", "C", 6), ("A", 2), ("A", 1), (2, 2, "W")]
    check(
        lambda x, i, j, v: x.index_put((i, j), v, accumulate),
        lambda x, i, j, v: torch.index_put(x, (i, j), v, accumulate=accumulate),
        *(x, i, j, v),
        dynamic=dynamic,
        through_torch=True,
    )
    check(
        lambda x, v: x.index_put((i, j), v[0, 0], accumulate=accumulate),
        lambda x, v: torch.index_put(x, (torch.tensor(i), torch.tensor(j)), v[0, 0], accumulate),
        *(x, v),
        dynamic=[("N", 5, 6), (2, 2, 6)],
        through_torch=True,
    )
    for indices in ((None, torch.tensor([1, 0])), (torch.tensor([1, 0]), None, torch.tensor([5]))):
        check(
            lambda x, i=indices: x.index_put(i, x.new_tensor(3), accumulate),
            lambda x, i=indices: torch.ops.aten.index_put(x, i, x.new_tensor(3), accumulate),
            x,
            dynamic=[("N", "C", "W")],
        )


def test_index_put_by_masks(check: Any) -> None:
    mask = np.array([True, False, True, True])
    wide = X > 0
    for function in (
        lambda x, m: x.index_put((m,), x.new_tensor(2.0)),
        lambda x, m: x.index_put((x > 0,), x.new_tensor([2.0]), accumulate=True),
        lambda x, m: x.index_put([m], x[0, 0]),
        lambda x, m: x.index_put([m], x[0, 0][None, None]),
    ):
        check(function, function, X, mask, dynamic=[("N", 5, 6), ("N",)])
    check(lambda x: x.index_put((wide,), 0), lambda x: torch.where(torch.tensor(wide), 0, x), X)


def test_masks(check: Any) -> None:
    mask = np.array([[True], [False], [True], [False], [True]])
    for x, value in ((X, -np.inf), (INTS, 3), (INTS.astype(np.int32), -1), (INTS > 0, False)):
        check(
            lambda x, m, v=value: (x.masked_fill(m, v), x.masked_fill(mask, v)),
            lambda x, m, v=value: (
                torch.masked_fill(x, m, v),
                x.masked_fill(torch.tensor(mask), v),
            ),
            x,
            mask,
            dynamic=[("N", "C", "W"), ("D", 1)],
            through_torch=True,
        )
    check(
        lambda x, m: x.masked_fill(m, x[0, 0, 0]),
        lambda x, m: x.masked_fill(mask=m, value=x[0, 0, 0]),
        X,
        mask,
        through_torch=True,
    )
    check(
        lambda x, m, s: x.masked_scatter(m, s),
        lambda x, m, s: torch.masked_scatter(x, m, s),
        X,
        mask,
        (99,),
        dynamic=[("N", 5, "W"), (5, 1), ("S",)],
        through_torch=True,
    )


def test_slices(check: Any) -> None:
    for arguments in (
        (0, 1, 3, 1),
        (1, None, None, 2),
        (2, -2, None, 1),
        (0, 0, 9, 3),
        (1, 5, 9, 1),
    ):
        shape = X[tuple([slice(None)] * arguments[0] + [slice(*arguments[1:])])].shape
        source = RANDOM.standard_normal(shape).astype(np.float32)
        if not source.size:
            continue
        check(
            lambda x, s, a=arguments: x.slice_scatter(s, *a),
            lambda x, s, a=arguments: torch.slice_scatter(x, s, *a),
            X,
            source,
            dynamic=[("N", "C", "W"), shape],
            through_torch=True,
        )
    for dim, index in ((0, 1), (-1, -2)):
        shape = X.take(0, dim).shape
        check(
            lambda x, s, d=dim, i=index: x.select_scatter(s, d, i),
            lambda x, s, d=dim, i=index: torch.select_scatter(x, s, d, i),
            X,
            shape,
            dynamic=[("N", "C", "W"), shape],
            through_torch=True,
        )  # fmt: skip


def test_scalars(check: Any) -> None:
    i = np.array(0)
    for function in (
        lambda x, i: x.scatter(0, i, 5),
        lambda x, i: x.scatter_add(0, i, x),
        lambda x, i: x.index_add(0, i, x),
        lambda x, i: x.index_fill(0, i, 2),
        lambda x, i: x.index_copy(0, i, x * 2),
    ):
        check(function, function, np.array(3.0, np.float32), i, build=False)


def test_errors(net: Any, raises: Any) -> None:
    x, i = net.input("x", (2, 6)), net.input("i", (2, 3), "int64")
    big = net.input("big", (70000, 6))
    with raises(ShapeError, "scatter: index out of range", "0 to 5 on axis 1", "got: -1"):
        x.scatter(1, [[-1]], 0)
    with raises(ShapeError, "one rank"):
        x.scatter(1, i[0], 0)
    with raises(ShapeError, "larger than the source or the input", "at most 2 on axis 1"):
        x.scatter(1, i, x[:, :2])
    with raises(UnsupportedError, "reduce='amax'"):
        x.scatter(1, i, x, reduce="amax")
    with raises(UnsupportedError, "no reduction 'median'", "sum, prod"):
        x.scatter_reduce(1, i, x, "median")
    with raises(UnsupportedError, "must have one type", "source.to(input.dtype)"):
        x.scatter(1, i, i)
    with raises(UnsupportedError, "too many pairs", "at most 268435456", "got: 70000 * 6 * 70000"):
        big.index_add(0, big[:, 0].long(), big)
    for call in (x.index_add, x.index_copy):
        with raises(ShapeError, "index must be 1-D"):
            call(0, i, x)
        with raises(ShapeError, "the source has the wrong shape", "(3, 6)"):
            call(0, i[0], x)
    with raises(UnsupportedError, "trtnet.int64 cannot hold the value", "got: 0.5"):
        i.masked_fill(i > 0, 0.5)
    with raises(UnsupportedError, "the mask must be bool", "mask.bool()"):
        x.masked_fill(i, 0)
    with raises(ShapeError, "a number or a tensor without axes"):
        x.masked_fill(x > 0, x)
    with raises(UnsupportedError, "depends on the data"):
        x.index_put((x > 0,), net.input("many", (5,)))
    with raises(ShapeError, "another shape than the slice", "(2, 3)"):
        x.slice_scatter(x, 1, 0, 3)
    with raises(ShapeError, "one axis less"):
        x.select_scatter(x, 1, 0)
    assert ops.scatter(x, 1, np.zeros((0, 0), int), 0).itensor is x.itensor
