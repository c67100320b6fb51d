"""Axes moved, expanded, joined and cut under all of PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

DYNAMIC = [("N", 3, "W")]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.movedim(x, 0, -1),
        lambda m, x: m.movedim(x, (0, 2), (1, 0)),
        lambda m, x: x.moveaxis(-1, 0),
        lambda m, x: x.swapaxes(0, -1),
        lambda m, x: x.swapdims(1, 2),
        lambda m, x: m.permute(x, (2, 0, 1)),
        lambda m, x: x.permute(2, 0, 1),
        lambda m, x: x.permute(dims=(1, 0, 2)),
        lambda m, x: x.permute([0, 1, 2]),
        lambda m, x: m.adjoint(x),
        lambda m, x: m.ravel(x),
        lambda m, x: m.flatten(x, 1),
        lambda m, x: x.unflatten(1, (3, 1, -1)),
        lambda m, x: x.unsqueeze(-2).squeeze((1, 2)),
        lambda m, x: x.view(-1),
        lambda m, x: m.reshape(x, (-1, 3)),
        lambda m, x: x.reshape([x.shape[2], -1]),
        lambda m, x: x.repeat(1, 2, 3),
        lambda m, x: x.repeat(2, 1, 1, 1),
        lambda m, x: x.repeat((2, 3, 1, 2)),
        lambda m, x: x.repeat(1, 1, 1),
        lambda m, x: m.atleast_1d(x),
        lambda m, x: m.atleast_3d([x, x]),
        lambda m, x: m.broadcast_to(x, (2, -1, -1, -1)),
        lambda m, x: m.hstack((x, x)),
        lambda m, x: m.vstack((x, x)),
        lambda m, x: m.dstack([x, x]),
        lambda m, x: m.column_stack([x, x]),
        lambda m, x: m.stack([x, x], -1),
        lambda m, x: m.cat([x, x], dim=-1),
        lambda m, x: m.cat([x, x], axis=1),
        lambda m, x: m.split(x, 2, 1),
        lambda m, x: m.split(x, [1, 2], dim=-2),
        lambda m, x: x.split(split_size=2, dim=1),
        lambda m, x: m.chunk(x, 2, 1),
        lambda m, x: m.tensor_split(x, 2, 1),
        lambda m, x: m.tensor_split(x, 5, dim=1),
        lambda m, x: m.tensor_split(x, (1, -1), 1),
        lambda m, x: m.hsplit(x, 3),
        lambda m, x: m.hsplit(x, [1, 7]),
        lambda m, x: m.unbind(x, axis=1),
        lambda m, x: m.narrow(x, 1, -2, 2),
        lambda m, x: x.expand_as(m.stack([x, x])),
        lambda m, x: x.flatten().view_as(x),
        lambda m, x: x.flatten().reshape_as(x),
    ],
)
def test_functions_and_methods(check: Any, function: Any) -> None:
    check(
        lambda x: function(ops, x),
        lambda x: function(torch, x),
        (4, 3, 5),
        dynamic=DYNAMIC,
        through_torch=True,
    )


NAMED = (
    *(ops.hstack, ops.vstack, ops.dstack, ops.column_stack, ops.tensor_split, ops.hsplit),
    *(ops.vsplit, ops.dsplit, ops.movedim, ops.adjoint, ops.ravel, ops.broadcast_to),
    *(ops.atleast_1d, ops.atleast_2d, ops.atleast_3d, ops.repeat, ops.view, ops.expand_as),
    *(ops.reshape_as, ops.split_with_sizes, ops.broadcast_tensors, ops.meshgrid, ops.t),
)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.atleast_1d(x),
        lambda m, x: m.atleast_2d(x),
        lambda m, x: m.atleast_3d(x),
        lambda m, x: m.t(x),
        lambda m, x: x.t(),
        lambda m, x: m.hstack([x, x]),
        lambda m, x: m.vstack([x, x]),
        lambda m, x: m.dstack([x, x]),
        lambda m, x: m.column_stack([x, x]),
        lambda m, x: m.ravel(x),
        lambda m, x: x.flatten(),
        lambda m, x: x.squeeze(),
        lambda m, x: x.repeat(2, 3),
        lambda m, x: m.broadcast_to(x, (4, 2, 3)),
        lambda m, x: x.expand(2, 3),
    ],
)
def test_low_ranks(check: Any, function: Any, shape: Any) -> None:
    check(lambda x: function(ops, x), lambda x: function(torch, x), shape, through_torch=True)


def test_splits_of_other_axes(check: Any) -> None:
    for name in ("vsplit", "dsplit"):
        check(
            lambda x, n=name: getattr(ops, n)(x, (1, 2)),
            lambda x, n=name: getattr(torch, n)(x, (1, 2)),
            (3, 4, 5),
            through_torch=True,
        )
    check(
        lambda x: ops.split_with_sizes(x, [1, 2], 0),
        lambda x: torch.split_with_sizes(x, [1, 2], 0),
        (3, 4),
        through_torch=True,
    )


def test_a_split_with_sizes_that_are_not_known(check: Any) -> None:
    check(
        lambda x: x.split([1, x.shape[0] - 1]),
        lambda x: x.split([1, x.shape[0] - 1]),
        (4, 3),
        dynamic=[("N", 3)],
        through_torch=True,
    )


def test_cat_leaves_out_vectors_without_elements(check: Any) -> None:
    empty = np.zeros(0, np.float32)
    check(
        lambda x: ops.cat([x, empty, x]),
        lambda x: torch.cat([x, torch.zeros(0, dtype=x.dtype), x]),
        (2, 3),
    )


def test_block_diag(check: Any, net: Any, raises: Any) -> None:
    check(ops.block_diag, torch.block_diag, (2, 3), (4,), (), (1, 2), through_torch=True)
    check(ops.block_diag, torch.block_diag, np.array([[1, 2]]), np.array([[3]]))
    with raises(ShapeError, "block_diag", "fixed sizes"):
        ops.block_diag(net.input("x", ("N", 2)))


@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_meshgrid(check: Any, indexing: str) -> None:
    for shapes, dynamic in (
        (((3,), (4,)), [("A",), ("B",)]),
        (((3,), (), (2,)), None),
        (((3,),), None),
    ):
        check(
            lambda *x: ops.meshgrid(*x, indexing=indexing),
            lambda *x: torch.meshgrid(*x, indexing=indexing),
            *shapes,
            dynamic=dynamic,
            through_torch=True,
        )


def test_broadcast_tensors(check: Any, net: Any, raises: Any) -> None:
    check(
        lambda *x: ops.broadcast_tensors(*x),
        lambda *x: torch.broadcast_tensors(*x),
        *((3, 1), (4,), ()),
        dynamic=[("N", 1), (4,), ()],
        through_torch=True,
    )
    with raises(ShapeError, "broadcast_tensors", "known only at run time"):
        ops.broadcast_tensors(net.input("a", ("N",)), net.input("b", ("M",)))
    with raises(ShapeError, "do not broadcast"):
        ops.broadcast_tensors(net.input("c", (2,)), net.input("d", (3,)))


def test_numpy_sizes(check: Any) -> None:
    check(
        lambda x: x.reshape(np.int64(2), np.int64(6)),
        lambda x: x.reshape(2, 6),
        (3, 4),
    )


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 3, 4))
    with raises(UnsupportedError, "view", "x.to(dtype)"):
        x.view(trtnet.float16)
    with raises(UnsupportedError, "view", "x.to(dtype)"):
        x.view(dtype=trtnet.float16)
    with raises(ShapeError, "t: needs at most two axes", "transpose(-2, -1)"):
        x.t()
    with raises(ShapeError, "movedim"):
        x.movedim((0, 1), (0,))
    with raises(ShapeError, "repeat: too few", "at least 3"):
        x.repeat(2)
    with raises(ShapeError, "tensor_split", "positive"):
        x.tensor_split(0)
    with raises(ShapeError, "split", "positive"):
        x.split(0)
    with raises(ShapeError, "split: the sections do not add up"):
        x.split([1, 2])
    with raises(UnsupportedError, "meshgrid: indexing='ab'"):
        ops.meshgrid(x, indexing="ab")
    with raises(ShapeError, "meshgrid: needs vectors"):
        ops.meshgrid(x)
    with raises(ShapeError, "unflatten: dim is out of range"):
        x.unflatten("N", (1, 2))
