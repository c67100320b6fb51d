"""Reductions with PyTorch's further arguments: types, any and all, variances, norms, positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

WITH_NAN = np.array([[1, np.nan, 3, -0.0], [np.nan, np.nan, 0, 2.5]], np.float32)
NAMED = (ops.any, ops.all, ops.count_nonzero, ops.prod, ops.amin)
COUNTS = np.array([[1, -2, 3, 0], [4, 0, -6, 0]])
TIES = np.array([[3, 1, 3, 2, 1], [0, 0, 0, 0, 0], [-1, -2, -1, -2, -3]], np.float32)


@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin", "any", "all", "count_nonzero"])
@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64, np.float32])
def test_every_type(check: Any, name: str, dtype: Any) -> None:
    values = COUNTS.astype(dtype)
    check(
        lambda x: getattr(ops, name)(x, 1),
        lambda x: getattr(torch, name)(x, 1),
        values,
        dynamic=[("N", None)],
        through_torch=True,
    )
    check(
        lambda x: getattr(x, name)(dim=-2), lambda x: getattr(x, name)(dim=-2), values, build=False
    )
    check(getattr(ops, name), getattr(torch, name), values, build=False)


def test_builtins_are_not_meant() -> None:
    assert all(getattr(ops, function.__name__) is function for function in NAMED)


@pytest.mark.parametrize("name", ["any", "all"])
@pytest.mark.parametrize("dim", [0, (0, 2), (-1,)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_any_and_all_over_axes(check: Any, name: str, dim: Any, keepdim: bool) -> None:
    values = np.random.default_rng(2).random((3, 4, 2)) > 0.4
    for array in (values, values.astype(np.float32)):
        check(
            lambda x: getattr(ops, name)(x, dim, keepdim),
            lambda x: getattr(torch, name)(x, dim, keepdim),
            array,
            dynamic=[("N", 4, "W")],
            through_torch=True,
        )


def test_nan_counts_as_true(check: Any) -> None:
    check(ops.all, torch.all, np.array([np.nan, 1], np.float32), through_torch=True)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "nansum"])
def test_dtype(check: Any, name: str) -> None:
    check(
        lambda x: getattr(ops, name)(x, 1, dtype=torch.float32),
        lambda x: getattr(torch, name)(x, 1, dtype=torch.float32),
        COUNTS,
        through_torch=True,
    )
    if name == "sum":
        check(
            lambda x: ops.sum(x, dtype=torch.int32),
            lambda x: torch.sum(x, dtype=torch.int32),
            COUNTS > 0,
            through_torch=True,
        )


def test_numpy_names(check: Any) -> None:
    check(
        lambda x: ops.sum(x, axis=1, keepdims=True),
        lambda x: torch.sum(x, axis=1, keepdims=True),
        (3, 4),
        through_torch=True,
    )
    check(lambda x: x.amax(axis=(0, 1)), lambda x: x.amax(axis=(0, 1)), (3, 4), through_torch=True)
    check(lambda x: x.std(axis=0), lambda x: x.std(axis=0), (3, 4), through_torch=True)


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "prod", "argmax", "any"])
def test_scalars(check: Any, name: str) -> None:
    for dim in (0, -1):
        check(
            lambda x, d=dim: getattr(ops, name)(x, d),
            lambda x, d=dim: getattr(torch, name)(x, d),
            (),
            through_torch=True,
        )
    check(getattr(ops, name), getattr(torch, name), (), through_torch=True)


@pytest.mark.parametrize("name", ["nansum", "nanmean"])
def test_nan_is_left_out(check: Any, name: str) -> None:
    for dim in (None, 0, 1, (0, 1)):
        check(
            lambda x, d=dim: getattr(ops, name)(x, d, keepdim=True),
            lambda x, d=dim: getattr(torch, name)(x, d, keepdim=True),
            WITH_NAN,
            dynamic=[("N", "W")],
            through_torch=True,
        )
    assert ops.nansum is not ops.nanmean


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"unbiased": False}, {"correction": 0}, {"correction": 2, "keepdim": True}]
)
def test_variance(check: Any, name: str, dim: Any, options: Any) -> None:
    if dim is None and "unbiased" in options:
        options = {**options, "dim": (0, 1, 2)}
    elif dim is not None:
        options = {**options, "dim": dim}
    check(
        lambda x: getattr(ops, name)(x, **options),
        lambda x: getattr(torch, name)(x, **options),
        (3, 4, 5),
        dynamic=[("N", 4, "W")],
        through_torch=True,
        build=name == "std",
    )


def test_variance_as_it_is_called(check: Any) -> None:
    check(lambda x: ops.var(x, False), lambda x: torch.var(x, False), (3, 4), through_torch=True)
    check(lambda x: x.std(1, False, True), lambda x: x.std(1, False, True), (3, 4))
    check(lambda x: ops.std(x, 1), lambda x: torch.std(x, 1), (3, 1), through_torch=True)
    check(ops.var_mean, torch.var_mean, (3, 4), through_torch=True)
    check(ops.std_mean, torch.std_mean, (3, 4), through_torch=True)


def test_variance_of_large_values_in_half_precision(check: Any) -> None:
    """Squares of 300 leave FP16's range."""
    values = np.linspace(-400, 400, 24, dtype=np.float32).reshape(2, 12)
    options: Any = {"precision": "fp16", "rtol": 2e-3, "rtol64": 2e-3}
    check(lambda x: ops.std(x * 1, 1), lambda x: x.std(1), values, **options)
    check(lambda x: ops.norm(x * 1, dim=1), lambda x: x.norm(dim=1), values, **options)
    check(lambda x: ops.logsumexp(x * 1, 1), lambda x: x.logsumexp(1), values, **options)


@pytest.mark.parametrize("p", ["fro", None, 0, 1, 2, 3, 0.5, -1, math.inf, -math.inf])
def test_norm(check: Any, p: Any) -> None:
    for dim in (None, 1, (0, 2)):
        check(
            lambda x, d=dim: ops.norm(x, p, d, True),
            lambda x, d=dim: torch.norm(x, p, d, True),
            (3, 4, 5),
            dynamic=[("N", 4, "W")],
            through_torch=True,
            build=dim == 1,
        )


@pytest.mark.parametrize("order", [0, 1, 2, 2.5, math.inf])
def test_vector_norm(check: Any, order: float) -> None:
    check(
        lambda x: ops.vector_norm(x, order, (-1, 0)),
        lambda x: torch.linalg.vector_norm(x, order, (-1, 0)),
        (3, 4, 5),
    )
    check(
        lambda x: ops.linalg_norm(x, order, 1),
        lambda x: torch.linalg.norm(x, order, 1),
        (3, 4, 5),
        through_torch=True,
    )


@pytest.mark.parametrize("order", ["fro", 1, -1, math.inf, -math.inf])
@pytest.mark.parametrize("keepdim", [False, True])
def test_matrix_norm(check: Any, order: Any, keepdim: bool) -> None:
    for dim in ((-2, -1), (2, 0)):
        check(
            lambda x, d=dim: ops.matrix_norm(x, order, d, keepdim),
            lambda x, d=dim: torch.linalg.matrix_norm(x, order, d, keepdim),
            (3, 4, 5),
        )
    check(
        lambda x: ops.linalg_norm(x, order),
        lambda x: torch.linalg.norm(x, order),
        (3, 4),
        through_torch=True,
    )


@pytest.mark.parametrize("dim", [0, 1, (0, 1), (-1,)])
def test_logsumexp(check: Any, dim: Any) -> None:
    values = np.array([[1e4, -1e4, 0], [-np.inf, -np.inf, -np.inf], [88, np.inf, 90]], np.float32)
    for keepdim in (False, True):
        check(
            lambda x, k=keepdim: ops.logsumexp(x, dim, k),
            lambda x, k=keepdim: torch.logsumexp(x, dim, k),
            values,
            dynamic=[("N", "W")],
            through_torch=True,
        )


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_named_results(check: Any, name: str, dtype: Any) -> None:
    def values_then_indices(x: Any) -> Any:
        found = getattr(x, name)(1)
        return found.indices, found.values

    check(values_then_indices, values_then_indices, TIES.astype(dtype), through_torch=True)
    check(
        lambda x: getattr(torch, name)(x, dim=-2, keepdim=True)[1],
        lambda x: getattr(torch, name)(x, dim=-2, keepdim=True)[1],
        TIES.astype(dtype),
        dynamic=[("N", 5)],
    )
    check(lambda x, y: getattr(x, name)(y), lambda x, y: getattr(x, name)(y), (2, 3), (3,))
    check(
        lambda x, y: getattr(torch, name)(x, other=y),
        lambda x, y: getattr(torch, name)(x, other=y),
        *((2, 3), (3,)),
    )


def test_named_results_are_passed_on(check: Any) -> None:
    check(
        lambda x: ops.cat(x.aminmax(dim=1)),
        lambda x: torch.cat(x.aminmax(dim=1)),
        (3, 4),
        through_torch=True,
    )


def test_aminmax(check: Any) -> None:
    for dim in (None, 0, -1):
        check(
            lambda x, d=dim: (ops.aminmax(x, dim=d).max, ops.aminmax(x, dim=d).min),
            lambda x, d=dim: (torch.aminmax(x, dim=d).max, torch.aminmax(x, dim=d).min),
            (3, 4),
            through_torch=True,
        )


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(check: Any, name: str) -> None:
    for dim, keepdim in ((None, False), (None, True), (0, True), (-1, False)):
        check(
            lambda x, d=dim, k=keepdim: getattr(ops, name)(x, d, k),
            lambda x, d=dim, k=keepdim: getattr(torch, name)(x, d, k),
            TIES,
            dynamic=[("N", "W")],
            through_torch=True,
        )


def test_errors(net: Any, raises: Any) -> None:
    x, i = net.input("x", (2, 3)), net.input("i", (2, 3), "int64")
    with raises(UnsupportedError, "std: needs a floating-point tensor", "x.float().std()"):
        i.std()
    with raises(UnsupportedError, "norm", "floating-point"):
        ops.norm(i)
    with raises(UnsupportedError, "'nuc'"):
        ops.norm(x, "nuc")
    with raises(UnsupportedError, "singular values", "'fro'"):
        ops.matrix_norm(x, 2)
    with raises(UnsupportedError, "floating-point"):
        ops.nanmean(i)
    with raises(ShapeError, "norm", "1 or 2 axes"):
        ops.linalg_norm(net.input("y", (2, 3, 4)), 1)
    with raises(ShapeError, "sum: dim is out of range"):
        x.sum().sum(1)
