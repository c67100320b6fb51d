"""Reversing, repeating, windows, triangles and diagonals against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

INTS = (np.arange(60).reshape(3, 4, 5) * 7 % 11 + 2**60).astype(np.int64)
BOOLS = INTS % 3 == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.flip(x, [0]),
        lambda x: torch.flip(x, dims=(0, -1)),
        lambda x: x.flip(1),
        lambda x: x.flip(0, 2),
        lambda x: x.flip((1,)),
        lambda x: torch.fliplr(x),
        lambda x: torch.flipud(x),
        lambda x: torch.rot90(x),
        lambda x: torch.rot90(x, 2, [1, 2]),
        lambda x: torch.rot90(x, -1, (2, 0)),
        lambda x: x.rot90(4),
        lambda x: torch.tile(x, (2,)),
        lambda x: torch.tile(x, dims=(2, 1, 3)),
        lambda x: x.tile(2, 2, 1, 3),
        lambda x: x.tile(1, 1),
        lambda x: torch.repeat_interleave(x, 2),
        lambda x: torch.repeat_interleave(x, 3, dim=1),
        lambda x: x.repeat_interleave(2, -1),
        lambda x: x.repeat_interleave(1, 0),
        lambda x: torch.roll(x, 1, 0),
        lambda x: torch.roll(x, (1, -2), (0, 2)),
        lambda x: x.roll(-2, -1),
        lambda x: torch.diff(x),
        lambda x: torch.diff(x, 2, dim=0),
        lambda x: x.diff(n=1, dim=1, prepend=x[:, :2], append=x[:, -1:]),
        lambda x: x.diff(0),
        lambda x: x.unfold(2, 3, 1),
        lambda x: x.unfold(1, 2, 2),
        lambda x: x.unfold(-1, 2, 2),
        lambda x: x.unfold(0, 1, 3),
        lambda x: x.unfold(2, 4, 5),
        lambda x: torch.tril(x),
        lambda x: torch.tril(x, 2),
        lambda x: x.tril(diagonal=-1),
        lambda x: torch.triu(x, -2),
        lambda x: x.triu(9),
        lambda x: torch.diagonal(x),
        lambda x: torch.diagonal(x, 1, 2, 0),
        lambda x: torch.diagonal(x, offset=-2, dim1=1, dim2=-1),
        lambda x: x.diagonal(3, 1, 2),
        lambda x: torch.diag(x[0], -1),
        lambda x: torch.diag(x[0, 0], 2),
        lambda x: x[:, 0, 0].diag(),
        lambda x: torch.diag_embed(x),
        lambda x: torch.diag_embed(x, 1, 0, 2),
        lambda x: torch.diag_embed(x, -2, 3, 1),
        lambda x: x.diag_embed(2, dim1=2, dim2=0),
    ],
)
def test_arranging(check: Any, function: Any) -> None:
    dynamic = [("N", 4, "W"), (3, "H", 5), ("A", "B", "C")]
    check(function, function, (3, 4, 5), dynamic=dynamic[:1])
    check(function, function, (3, 4, 5), dynamic=dynamic[1:2], build=False)
    check(function, function, (3, 4, 5), dynamic=dynamic[2:], build=False)
    check(function, function, INTS, dynamic=dynamic[2:])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flip(0, 2),
        lambda x: x.tile(2, 1, 3),
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x.diff(),
        lambda x: x.unfold(2, 3, 2),
        lambda x: x.tril(1),
        lambda x: x.triu(),
        lambda x: x.diagonal(1, 1, 2),
        lambda x: x.diag_embed(-1),
    ],
)
def test_arranging_bools(check: Any, function: Any) -> None:
    check(function, function, BOOLS, dynamic=[("N", "H", "W")])


def test_what_is_zero_is_not_multiplied(check: Any) -> None:
    x = np.array([[np.inf, np.nan, 1], [-np.inf, 2, np.inf], [np.nan] * 3], np.float32)
    for function in (torch.tril, torch.triu, torch.diag_embed, torch.diag):
        check(function, function, x, dynamic=[("N", "M")])


@pytest.mark.parametrize("repeats", [[1, 0, 3], [2], np.array([0, 0, 1]), torch.tensor([2, 2, 2])])
def test_repeats_for_each_element(check: Any, repeats: Any) -> None:
    check(
        lambda x: ops.repeat_interleave(x, repeats, 0),
        lambda x: torch.repeat_interleave(x, torch.as_tensor(repeats), 0),
        (3, 2),
        dynamic=[(3, "W")],
        through_torch=True,
    )


def test_repeats_that_are_sizes(check: Any) -> None:
    for function in (
        lambda x, y: x.repeat_interleave(y.shape[0], 1),
        lambda x, y: x.tile(y.shape[0], 1),
    ):
        check(function, function, (3, 2), (4,), dynamic=[("N", 2), ("K",)])


def test_scalars_and_vectors(check: Any) -> None:
    for function in (
        lambda x: x[0].flip([]),
        lambda x: x[0].repeat_interleave(3),
        lambda x: x[0].tile(2, 3),
        lambda x: x.tile(()),
        lambda x: x.unfold(0, 5, 1),
    ):
        check(function, function, (5,))


def test_indices_of_triangles() -> None:
    for row, col, offset in ((3, 4, 0), (4, 3, -1), (2, 5, 2)):
        for ours, theirs in (
            (ops.tril_indices, torch.tril_indices),
            (ops.triu_indices, torch.triu_indices),
        ):
            np.testing.assert_array_equal(
                ours(row, col, offset), theirs(row, col, offset=offset).numpy()
            )


def test_empty_results(check: Any) -> None:
    for function in (
        lambda x: x.diagonal(9),
        lambda x: x.diff(5),
        lambda x: x.repeat_interleave(0, 1),
        lambda x: x.unfold(1, 0, 2),
        lambda x: x.tile(0, 1),
    ):
        check(function, function, (3, 4), build=False)


def test_errors(net: Any, raises: Any) -> None:
    x, counts = net.input("x", ("N", 6)), net.input("i", (6,), "int64")
    with raises(UnsupportedError, "repeats that are computed"):
        x.repeat_interleave(counts, 1)
    with raises(UnsupportedError, "needs a known size", "N on axis 0"):
        x.repeat_interleave([1, 2], 0)
    with raises(ShapeError, "one repeat for each element", "6 on axis 1"):
        x.repeat_interleave([1, 2], 1)
    for call in (lambda: x.tile(-1), lambda: x.repeat_interleave(-1), lambda: x.diff(-1)):
        with raises(ShapeError, "cannot be negative"):
            call()
    with raises(ShapeError, "the window does not fit", "size=7"):
        x.unfold(1, 7, 1)
    for call in (x.diagonal, x.diag_embed, lambda *_: x.rot90(1, [0, 0])):
        with raises(ShapeError, "two different axes"):
            call(0, 1, 1)
    for call in (lambda v: v.tril(), lambda v: v.triu(), lambda v: v.fliplr()):
        with raises(ShapeError, "at least two axes"):
            call(counts)
    with raises(ShapeError, "a vector or a matrix"):
        x[None].diag()
    with raises(ShapeError, "a dim is given twice"):
        x.flip(0, 0)
    with raises(UnsupportedError, "depends on a size", "(N, 3)"):
        ops.tril_indices(x.shape[0], 3)
