"""``x[...] = value``: every form of index, static and dynamic, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError, UsageError

MASK = np.array([[True, False, True], [False, False, True]])


def assigned(index: Any, value: Any) -> Callable[..., Any]:
    """Writes to a copy, and returns it; a callable `value` makes it of the second input."""

    def function(x: Any, *rest: Any) -> Any:
        x = x.clone()
        place = index(*rest) if callable(index) else index
        x[place] = value(*rest) if callable(value) else value
        return x

    return function


@pytest.mark.parametrize(
    "index",
    [
        0, -1, (1, 2), (slice(None), 0), slice(1, None), slice(None, -1), slice(0, 0), ...,
        (..., slice(None, None, 2)), (..., slice(1, None, 3)), (slice(None), slice(0, 2), 1),
        (slice(1, 2), slice(None, None, 2), slice(2, 5)), (None, ..., None, 3), slice(5, 9),
        (0, slice(1, 3), slice(0, None, 2)), (slice(None), [0, 2]), [1, 1, 0], (..., [-1, 0]),
        (np.array([0, 1]), np.array([2, 0])), ([0, 1], slice(None), [4, -5]), (0, [1, 2], 1),
        ([[0], [1]], [0, 2]), (MASK,), (slice(None), [True, False, True]), (..., MASK[0], 2),
        (slice(None), [], 0), (None, [1]), np.int64(1), (slice(None), -1, slice(-2, None)),
    ],
)  # fmt: skip
def test_numbers(check: Any, index: Any) -> None:
    check(assigned(index, 2.5), assigned(index, 2.5), (2, 3, 5), through_torch=True)


@pytest.mark.parametrize(
    ("index", "shape"),
    [
        (0, (3, 5)), (slice(None), (2, 3, 5)), ((slice(None), 0), (2, 5)), (..., (1, 1, 5)),
        ((..., slice(None, None, 2)), (3, 3)), ((slice(None), slice(0, 2), 1), (2, 1)),
        ((slice(0, 1), slice(1, None), slice(1, 4)), (1, 2, 3)), ((None, ..., None, 3), (3, 1)),
        ((slice(None), [0, 2]), (2, 5)), ([1, 0], (2, 3, 5)), ((..., [-1, 0]), (3, 2)),
        (([0, 1], [2, 0]), (2, 5)), (([0, 1], slice(None), [4, -5]), (2, 3)),
        (([[0], [1]], [0, 2]), (2, 2, 5)), ((slice(None), [0, 1], [1, 2]), (2, 2)),
        (MASK, (1, 5)), (MASK, (3, 5)), ((..., MASK[0], 2), (2, 1)), ((slice(1, None), 1), (1, 5)),
    ],
)  # fmt: skip
def test_tensors(check: Any, index: Any, shape: Any) -> None:
    function = assigned(index, lambda value: value)
    check(function, function, (2, 3, 5), shape, through_torch=True)


@pytest.mark.parametrize(
    ("index", "shape"),
    [
        (lambda i, v: i, (3, 3, 5)), (lambda i, v: (slice(None), i), (2, 3, 5)),
        (lambda i, v: (i, i), (3, 5)), (lambda i, v: (i[:, None], i), (3, 3, 5)),
        (lambda i, v: (0, i), (3, 5)), (lambda i, v: (slice(1, None), i, 0), (1, 3)),
        (lambda i, v: (i, slice(None), i), (3, 1)), (lambda i, v: (i, ..., slice(1, 3)), (3, 3, 2)),
        (lambda i, v: (i, [0, 1, 2]), ()), (lambda i, v: (None, i), (1, 3, 3, 5)),
        (lambda i, v: i[0], (3, 5)), (lambda i, v: (slice(None), i[1]), (1, 5)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_index_tensors(check: Any, index: Any, shape: Any, dtype: Any) -> None:
    positions = np.array([1, -2, 0][:3], dtype) % 2 - np.array([0, 0, 2], dtype)
    if shape and shape[0] == 3 and callable(index):
        positions = np.array([1, 0, -2], dtype)  # equal positions get any of their values
    function = assigned(index, lambda i, v: v.sum() if v.ndim == 3 else v)
    check(function, function, (2, 3, 5), positions, shape, through_torch=True)


def test_dynamic_axes(check: Any) -> None:
    def function(x: Any, value: Any) -> Any:
        y = x.clone()
        y[:, 0] = value[0, 0]
        y[0] = 1
        y[..., 1:-1] = value[..., 1:-1] * 2
        y[..., ::2] = 7
        y[:, 1:, 1::3] = value[:, 1:, 1::3]
        y[..., -1] = value[..., -1]
        y[:, [0, 1], 1:] = value[:, 0, 1:].unsqueeze(1)
        y[y > 6] = 0
        return y

    check(function, function, (2, 3, 7), (2, 3, 7),
          dynamic=[("N", "C", "W"), ("N", "C", "W")], through_torch=True)  # fmt: skip


def test_index_tensors_on_dynamic_axes(check: Any) -> None:
    def function(x: Any, index: Any, value: Any) -> Any:
        y = x.clone()
        y[:, index] = value
        y[0, index] = value[0] * 2
        y[index, index] = 0.0
        return y

    check(function, function, (3, 4, 2), np.array([2, 0, -1]), (3, 3, 2),
          dynamic=[("N", "L", 2), ("K",), ("N", "K", 2)], through_torch=True)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_types(check: Any, dtype: Any) -> None:
    """Values are cast to the type of the tensor."""

    def function(x: Any, value: Any) -> Any:
        y = x.clone()
        y[0] = 2.75
        y[:, 1] = value[:, 1]
        y[1, 2:] = True
        return y

    values = np.array([[0, 1, 5, 7], [3, 0, 0, 1]]).astype(dtype)
    others = np.array([[0.5, 3.7, 1, 0]] * 2, np.float32)
    is_built = dtype is not np.uint8  # which TensorRT only reads and casts
    check(function, function, values, others, through_torch=True, build=is_built)


def test_large_integers_stay_exact(check: Any) -> None:
    def function(x: Any, y: Any) -> Any:
        x[1:] = y[1:]
        x[::2] = 2**53 + 1
        return x

    values = np.arange(5) + 2**40 + 1
    check(lambda x, y: function(x.clone(), y), lambda x, y: function(x.clone(), y), values, -values)


def test_augmented_items(check: Any) -> None:
    def function(x: Any, index: Any) -> Any:
        x[:, 0] += 1
        x[1] *= x[0]
        x[..., ::2] -= x[..., ::2].mean()
        x[index] /= 2
        x[x < 0] **= 2
        return x

    def copied(x: Any, index: Any) -> Any:
        x = x.clone()
        x[:, 0] += 1
        x[1] *= x[0]
        x[..., ::2] -= x[..., ::2].mean()
        x[index] /= 2
        return x

    check(copied, copied, (2, 3, 5), np.array([1]), through_torch=True)


def test_scatters_of_slices(check: Any) -> None:
    def function(x: Any, a: Any, b: Any) -> Any:
        return (torch.slice_scatter(x, a, 1, 0, 2), torch.select_scatter(x, b, 2, -1),
                torch.slice_scatter(x, a, 1, 1), x.slice_scatter(x[::2] * 2, step=2))  # fmt: skip

    def ours(x: Any, a: Any, b: Any) -> Any:
        return (ops.slice_scatter(x, a, 1, 0, 2), ops.select_scatter(x, b, 2, -1),
                trtnet.slice_scatter(x, a, 1, 1), x.slice_scatter(x[::2] * 2, step=2))  # fmt: skip

    check(ours, function, (2, 3, 5), (2, 2, 5), (2, 3), through_torch=True)


def test_a_write_through_a_view_that_was_read_costs_no_second_write(net: Any) -> None:
    x = net.input("x", (2, 3, 4))
    x[:, 0] += 1
    kinds = [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]
    assert sorted(kinds) == ["CONSTANT"] * 2 + ["ELEMENTWISE", "SLICE", "SQUEEZE"]


@pytest.mark.parametrize(
    ("write", "kind", "texts"),
    [
        (lambda x, v: ops.setitem_(x, 5, 1), ShapeError, ["out of range", "-2 to 1"]),
        (lambda x, v: ops.setitem_(x, [0, 2], 1), ShapeError, ["out of range", "on axis 0"]),
        (lambda x, v: ops.setitem_(x, 0, v), ShapeError, ["do not fit", "(3, 5)", "(7,)"]),
        (lambda x, v: ops.setitem_(x, (0, 0, 0, 0), 1), ShapeError, ["too many indices"]),
        (lambda x, v: ops.setitem_(x, x > 0, v), UnsupportedError, ["trtnet.where"]),
        (lambda x, v: ops.setitem_(x, "text", v), UnsupportedError, ["cannot index", "text"]),
        (lambda x, v: ops.setitem_(x, True, v), UnsupportedError, ["cannot index"]),
        (lambda x, v: ops.setitem_(x, slice(None, None, -1), 0), UnsupportedError, ["positive"]),
        (lambda x, v: ops.setitem_(x, v, 0), UnsupportedError, ["int32, int64 or bool"]),
        (lambda x, v: ops.setitem_(x, np.ones((3, 3), bool), 0), ShapeError, ["mask"]),
        (lambda x, v: ops.setitem_(np.zeros(3), 0, v), UsageError, ["only a trtnet.Tensor"]),
        (lambda x, v: torch.zeros(3).__setitem__(0, v), UsageError, ["ndarray", "new_tensor"]),
    ],
)  # fmt: skip
def test_refusals(net: Any, raises: Any, write: Any, kind: Any, texts: list[str]) -> None:
    x, v = net.input("x", (2, 3, 5)), net.input("v", (7,))
    before = x.itensor
    with raises(kind, *texts):
        write(x, v)
    assert x.itensor is before
