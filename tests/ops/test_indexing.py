"""Slicing and index tensors against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError


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
    for index in (True, [0, 1], "a", 1.0):
        with raises(UnsupportedError, "cannot index with"):
            x[index]
    with raises(UnsupportedError, "only one index tensor"):
        x[i, i]
    with raises(UnsupportedError, "int32 or int64"):
        x[x > 0]
    with raises(ShapeError, "only one '...'"):
        x[..., 0, ...]
    with raises(ShapeError, "gather: index and input must have one rank"):
        ops.gather(x, 0, i)
