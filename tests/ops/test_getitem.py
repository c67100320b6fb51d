"""``x[...]`` with index tensors, lists, arrays and masks, against PyTorch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

MASK = np.array([True, False, True])
MASK2 = np.array([[True, False, True, True], [False] * 4, [True, False, False, True]])
COUNTS = torch.tensor([[2, 0], [1, -1]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[[0, 2]],
        lambda x: x[[0, -1], [1, 2]],
        lambda x: x[:, [3, 0, 0]],
        lambda x: x[:, [[1], [2]], [0, -1, 3]],
        lambda x: x[[0, 1], :, [1, 2]],
        lambda x: x[[[0], [1]], ..., [1, 2]],
        lambda x: x[:, None, [0, 1], [2, 3]],
        lambda x: x[None, [0, 1], None, [2, 3], None],
        lambda x: x[0, :, [1, 2]],
        lambda x: x[0, [1, 2]],
        lambda x: x[[1, 2], 0],
        lambda x: x[[1, 2], 0, [1, 2]],
        lambda x: x[..., [1, 2], None, 1],
        lambda x: x[1:, [1, 2], ::2],
        lambda x: x[COUNTS],
        lambda x: x[:, COUNTS, None],
        lambda x: x[COUNTS, :, COUNTS.int()],
        lambda x: x[torch.tensor(1)],
        lambda x: x[:, torch.tensor(-1), [0, 1]],
        lambda x: x[torch.tensor([1]), torch.tensor(2)],
        lambda x: x[MASK],
        lambda x: x[torch.from_numpy(MASK), 1:],
        lambda x: x[MASK.tolist()],
        lambda x: x[MASK.astype(np.uint8).astype(bool), [1, 2]],
        lambda x: x[MASK2],
        lambda x: x[MASK2, [0]],
        lambda x: x[None, MASK2, None],
        lambda x: x[:, :, [True, False, False, True, True]],
        lambda x: x[True],
        lambda x: x[None, True, 1],
        lambda x: x[:, True],
        lambda x: x[[0, 1], True],
        lambda x: x[:, True, [0, 1]],
        lambda x: x[torch.tensor(True)],
        lambda x: x[np.int64(1), np.array([0, 1])],
        lambda x: x[1][2][3],
    ],
)
def test_constant_indices(check: Any, function: Any) -> None:
    check(function, function, (3, 4, 5), dynamic=[("N", 4, 5)])
    if not any(mask in function.__code__.co_names for mask in ("MASK", "MASK2")):
        check(function, function, (3, 4, 5), dynamic=[("N", "C", "W")])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[False],
        lambda x: x[[]],
        lambda x: x[:, []],
        lambda x: x[:, [], [1]],
        lambda x: x[[False] * 3],
        lambda x: x[:, 4:],
        lambda x: x[3:, :, 0],
        lambda x: x[torch.zeros(0, dtype=torch.long)],
    ],
)
def test_empty_results(check: Any, function: Any) -> None:
    check(function, function, (3, 4, 5), build=False)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, i, j: x[i],
        lambda x, i, j: x[i, j],
        lambda x, i, j: x[:, i, j],
        lambda x, i, j: x[i, :, j],
        lambda x, i, j: x[i, 1, j],
        lambda x, i, j: x[i, None, j],
        lambda x, i, j: x[:, i, [1]],
        lambda x, i, j: x[[[1]], i],
        lambda x, i, j: x[i, j, j],
        lambda x, i, j: x[i, 1:3, None, j],
        lambda x, i, j: x[j[0], 1, i],
        lambda x, i, j: x[..., j[0]],
        lambda x, i, j: x[True, i],
    ],
)
def test_computed_indices(check: Any, function: Any, dtype: Any) -> None:
    i, j = np.array([[2, 0], [1, -1]], dtype), np.array([-2, 1], dtype)
    check(
        function,
        lambda x, i, j: function(x, i.long(), j.long()),
        (3, 4, 5),
        i,
        j,
        dynamic=[("N", "C", "W"), ("A", 2), ("B",)],
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "bool", "int8"])
def test_element_types(check: Any, dtype: str) -> None:
    x = (np.arange(60).reshape(3, 4, 5) % 7 - 3).astype(dtype)
    for function in (lambda x: x[[0, 2], 1:, [1, 1]], lambda x: x[1, ::2, None]):
        if dtype not in ("int8", "float16"):  # both come out as something else
            check(function, function, x, dynamic=[("N", 4, "W")])


def test_indices_beyond_what_float32_holds(check: Any) -> None:
    x = np.array([2**53 + 1, -(2**62) - 1, 3])
    check(lambda x: x[[1, 0, -1]], lambda x: x[[1, 0, -1]], x, dynamic=[("N",)])


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x[: y.shape[0]],
        lambda x, y: x[y.shape[0] :],
        lambda x, y: x[y.shape[0] - 4 :],
        lambda x, y: x[: y.shape[0] - 4],
        lambda x, y: x[: x.shape[0] - 2 * y.shape[0]],
        lambda x, y: x[y.shape[0] - 9 : y.shape[0] * 3],
        lambda x, y: x[: y.shape[0] * 3 : 2],
        lambda x, y: x[x.shape[0] // 2 : y.shape[0] + 1],
        lambda x, y: x[y.shape[0] - 3],
        lambda x, y: x[-y.shape[0] if isinstance(y.shape[0], int) else 0 - y.shape[0]],
        lambda x, y: x[:, : y.shape[0] + 3],
        lambda x, y: x[:, y.shape[0] - 3 :],
    ],
)
@pytest.mark.parametrize("n", [2, 5])
def test_bounds_are_clipped_as_python_clips_them(check: Any, function: Any, n: int) -> None:
    try:
        size = function(np.ones((5, 3)), np.ones(n)).size
    except IndexError:
        return
    check(function, function, (5, 3), (n,), dynamic=[("N", 3), ("K",)], build=size > 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: x[m],
        lambda x, m: x[:, m[0]],
        lambda x, m: x[m, [1]],
        lambda x, m: x.masked_select(m[:, :, None]),
        lambda x, m: torch.masked_select(x, m[:, :, None]),
        lambda x, m: m.nonzero(),
        lambda x, m: m.nonzero(as_tuple=True),
        lambda x, m: torch.argwhere(x > 0),
    ],
)
def test_computed_masks_where_the_backend_has_nonzero(function: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    wanted = function(torch.from_numpy(x), torch.from_numpy(MASK2))
    backend = trtnet.backend.load("rtx")
    description = dataclasses.replace(backend.description, unbuildable=frozenset())
    for shape in ((3, 4, 5), ("N", 4, "W")):
        net = trtnet.Network(dataclasses.replace(backend, description=description))
        results = function(net.input("x", shape), net.input("m", shape[:2], "bool"))
        results = results if isinstance(results, tuple) else (results,)
        for number, result in enumerate(results):
            net.output(f"y{number}", result)
        got = trtnet.reference.run(net.definition, {"x": x, "m": MASK2})
        for number, want in enumerate(wanted if isinstance(wanted, tuple) else (wanted,)):
            np.testing.assert_array_equal(got[f"y{number}"], want.numpy())


def test_masked_select_by_a_constant(check: Any) -> None:
    check(
        lambda x: ops.masked_select(x, MASK2[:, :, None]),
        lambda x: torch.masked_select(x, torch.from_numpy(MASK2)[:, :, None]),
        (3, 4, 5),
        through_torch=True,
    )


def test_errors(net: Any, raises: Any) -> None:
    x, i = net.input("x", (2, 6)), net.input("i", (2,), "int64")
    dynamic = net.input("d", ("N", 6))
    with raises(ShapeError, "index out of range", "-6 to 5 on axis 1", "got: 6"):
        x[:, [0, 6]]
    with raises(ShapeError, "index out of range", "got: -3"):
        x[[-3, 0]]
    with raises(ShapeError, "do not broadcast"):
        x[[0, 1], [0, 1, 2]]
    with raises(ShapeError, "do not broadcast"):
        x[i, [0, 1, 2]]
    with raises(ShapeError, "too many indices", "at most 2", "got: 3"):
        x[i, i, i]
    with raises(ShapeError, "a mask has another size", "expected: 2 on axis 0", "got: 3"):
        x[MASK]
    with raises(UnsupportedError, "must hold integers"):
        x[[0.5]]
    with raises(UnsupportedError, "must be int32 or int64", "x.long()"):
        x[x]
    for index in ("a", 1.0, {}):
        with raises(UnsupportedError, "cannot index with"):
            x[index]
    with raises(UnsupportedError, "depends on the data", "trtnet.where"):
        x[x > 0]
    with raises(UnsupportedError, "depends on the data"):
        x.masked_select(x > 0)
    with raises(UnsupportedError, "depends on the data"):
        x.nonzero()
    with raises(UnsupportedError, "a list that holds tensors"):
        x[[i, i]]
    with raises(UnsupportedError, "a list that holds tensors"):
        x[[dynamic.shape[0], 0]]
    with raises(UnsupportedError, "a bound of a slice"):
        x[: i[0]]
    with raises(UnsupportedError, "uint8 in inputs and outputs only", "x.int()"):
        net.input("bytes", (2, 6), "uint8")[1:]
    for step in (0, -1, dynamic.shape[0], True):
        with raises(UnsupportedError, "step must be a positive int"):
            x[::step]
