"""Slicing and index tensors against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[0],
        lambda x: x[-1],
        lambda x: x[1:],
        lambda x: x[:-1],
        lambda x: x[-2:],
        lambda x: x[:, 1:3],
        lambda x: x[:, ::2],
        lambda x: x[:, 1::3],
        lambda x: x[:, -4:-1:2],
        lambda x: x[..., 0],
        lambda x: x[..., -1:],
        lambda x: x[None],
        lambda x: x[:, None, 1, ..., None],
        lambda x: x[None, 0, None, :, -1, None],
        lambda x: x[1, 2, 3],
        lambda x: x[...],
        lambda x: x[:],
        lambda x: x[:, 100:],
        lambda x: x[:, -100:2],
        lambda x: x[:, :100],
        lambda x: x[0:3:1, ::1],
        lambda x: x[:, :, x.shape[2] - 2 :],
        lambda x: x[:, :, : x.shape[2] // 2],
        lambda x: x[:, :, x.shape[2] - 1],
        lambda x: x[:, :, :: x.shape[1]],
    ],
)
def test_slices(check: Any, function: Any) -> None:
    check(function, function, (3, 5, 4), dynamic=[("N", 5, "W")])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[-1],
        lambda x: x[1:],
        lambda x: x[:-1],
        lambda x: x[-2:],
        lambda x: x[::2],
        lambda x: x[1::3],
        lambda x: x[-100:2],
        lambda x: x[:100],
        lambda x: x[-4:-1:2],
        lambda x: x[:-100],
        lambda x: x[100:],
    ],
)
def test_slices_of_a_dynamic_axis(check: Any, function: Any) -> None:
    check(function, function, (5, 2), dynamic=[("N", 2)], build=function(np.ones((5, 2))).size > 0)


def test_slicing_that_changes_nothing_adds_no_layer(net: Any) -> None:
    x = net.input("x", ("N", 3, 4))
    assert x[:].itensor is x.itensor
    assert x[..., 0:4].itensor is x.itensor
    assert net.definition.num_layers == 0


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, i: x[i],
        lambda x, i: x[:, i],
        lambda x, i: x[..., i],
        lambda x, i: x[1, :, i],
        lambda x, i: x[:, None, 1:, i],
        lambda x, i: x[:2, i, None, 1],
    ],
)
def test_index_tensors(check: Any, function: Any, dtype: Any) -> None:
    index = np.array([[2, 0], [1, 1]], dtype)
    check(
        function,
        lambda x, i: function(x, i.long()),
        (3, 4, 5),
        index,
        dynamic=[("N", 4, "W"), ("A", 2)],
    )


def test_index_select(check: Any) -> None:
    index = np.array([3, 0, 0])
    for dim in (0, 1, -1):
        check(
            lambda x, i, d=dim: ops.index_select(x, d, i),
            lambda x, i, d=dim: torch.index_select(x, d, i),
            (4, 5, 6),
            index,
            dynamic=[("N", 5, "W"), ("K",)],
        )


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("smaller", [False, True])
def test_gather(check: Any, dim: int, smaller: bool) -> None:
    shape = (2, 3, 2) if smaller else (4, 5, 6)
    index = np.random.default_rng(0).integers(0, 4, shape)
    check(
        lambda x, i: ops.gather(x, dim, i),
        lambda x, i: torch.gather(x, dim, i),
        (4, 5, 6),
        index,
        dynamic=[("N", 5, "W"), ("A", "B", "C")],
    )


def test_getitem_is_a_function_too(check: Any) -> None:
    check(lambda x: ops.getitem(x, (slice(1, None), 0)), lambda x: x[1:, 0], (3, 2))


def test_errors(net: Any, raises: Any) -> None:
    x, i = net.input("x", (2, 6)), net.input("i", (2,), "int64")
    with raises(ShapeError, "index out of range", "-6 to 5 on axis 1", "got: 6"):
        x[:, 6]
    with raises(ShapeError, "too many indices", "at most 2", "got: 3"):
        x[0, 0, 0]
    with raises(UnsupportedError, "step must be a positive int", "got: -1"):
        x[:, ::-1]
    with raises(ShapeError, "only one '...'"):
        x[..., 0, ...]
    with raises(ShapeError, "gather: index and input must have one rank"):
        ops.gather(x, 0, i)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_constant_and_negative_indices(check: Any, dim: int) -> None:
    index = np.random.default_rng(1).integers(0, 3, (3, 2, 4))
    table = torch.tensor(index)
    for ours, theirs in (
        (lambda x: ops.gather(x, dim, index), lambda x: torch.gather(x, dim, table)),
        (lambda x: x.gather(dim, table), lambda x: x.gather(dim, index=table)),
        (
            lambda x: ops.index_select(x, dim, [2, 0]),
            lambda x: torch.index_select(x, dim, torch.tensor([2, 0])),
        ),
        (lambda x: x.select(dim, -2), lambda x: torch.select(x, dim, -2)),
        (lambda x: x.narrow(dim, -2, 2), lambda x: torch.narrow(x, dim, -2, 2)),
        (lambda x: x.take([[5, -1]]), lambda x: torch.take(x, torch.tensor([[5, -1]]))),
        (
            lambda x: x.take_along_dim(index[:, :1], 1),
            lambda x: torch.take_along_dim(x, table[:, :1], dim=1),
        ),
        (
            lambda x: x.take_along_dim(index),
            lambda x: torch.take_along_dim(x, torch.tensor(index)),
        ),
    ):
        along = "take_along_dim" in ours.__code__.co_names
        shape = (3, 4, 4) if along else (4, 3, 5)
        dynamic = [(3, 4, 4) if along else ("N", "C", "W")]
        check(ours, theirs, shape, dynamic=dynamic, through_torch=True, build=dim == 1)


def test_computed_indices(check: Any) -> None:
    x, i = (4, 1, 5), np.array([[[3, 1, 0, 2, 2]] * 3])
    for function, index in (
        (lambda x, i: torch.take(x, i - 4), i),
        (lambda x, i: torch.take_along_dim(x, i, 2), i),
        (lambda x, i: torch.select(x, 0, i) if type(x) is not torch.Tensor else x[i], np.array(-1)),
        (lambda x, i: torch.index_select(x, 0, i), np.array(2)),
        (lambda x, i: torch.gather(x[:, 0], 0, i[0]), i),
    ):
        check(
            function, function, x, index, dynamic=[("N", 1, 5), index.shape], build=index.ndim > 0
        )


def test_scalars(check: Any) -> None:
    for function in (
        lambda x, i: torch.gather(x, 0, i),
        lambda x, i: torch.index_select(x, 0, i),
        lambda x, i: torch.take(x, i),
    ):
        check(function, function, np.array(1.5, np.float32), np.array(0), build=False)


def test_embedding(check: Any, net: Any, raises: Any) -> None:
    table = np.random.default_rng(2).standard_normal((7, 3)).astype(np.float32)
    index = np.array([[6, 0, 3]])
    check(
        lambda i: F.embedding(i, table, 2),
        lambda i: torch.nn.functional.embedding(i, torch.tensor(table).to(torch.float32), 2),
        index.astype(np.int32),
        rtol64=1e-6,
        dynamic=[("N", 3)],
    )
    check(
        F.embedding, torch.nn.functional.embedding, index, table, dynamic=[("N", 3), ("V", 3)],
        through_torch=True,
    )  # fmt: skip
    check(lambda w: F.embedding(index, w), lambda w: w[torch.tensor(index)], table)
    weight = net.input("w", (7, 3))
    with raises(UnsupportedError, "max_norm"):
        F.embedding(index, weight, max_norm=1.0)
    with raises(ShapeError, "index out of range", "0 to 6", "got: 7"):
        F.embedding(index + 1, weight)


def test_one_hot(check: Any, net: Any, raises: Any) -> None:
    index = np.array([[6, 0, 3]])
    for function in (
        lambda i, x: torch.nn.functional.one_hot(i, 7),
        lambda i, x: torch.nn.functional.one_hot(i, num_classes=x.shape[0]),
    ):
        check(function, function, index, (9,), dynamic=[("N", 3), (9,)], through_torch=True)
    check(lambda i, x: F.one_hot(i, x.shape[0]), function, index, (9,), dynamic=[("N", 3), ("K",)])
    with raises(UnsupportedError, "depends on the data", "got: -1"):
        F.one_hot(net.input("i", (2,), "int64"))
