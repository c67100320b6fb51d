"""Vectors of unit length against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional


@pytest.mark.parametrize("dim", [1, -1])
def test_normalize(dim: int, check: Callable[..., None]) -> None:
    check(
        lambda x: F.normalize(x, dim=dim),
        lambda x: TF.normalize(x, dim=dim),
        (2, 3, 5),
        dynamic=[("N", 3, 5)],
    )


def test_short_vectors_are_divided_by_eps(check: Callable[..., None]) -> None:
    short = np.array([[3e-4, 4e-4], [3.0, 4.0]], np.float32)
    check(lambda x: F.normalize(x, eps=0.125), lambda x: TF.normalize(x, eps=0.125), short)


def test_squares_do_not_overflow_in_half_precision(check: Callable[..., None]) -> None:
    long = np.array([[300.0, 400.0, 0.0], [3e4, 0.0, 4e4]], np.float32)
    check(F.normalize, TF.normalize, long, precision="fp16", rtol=1e-3)


@pytest.mark.parametrize("p", [1, 2.0, 3, 0.5, 0, float("inf"), float("-inf")])
@pytest.mark.parametrize("dim", [1, -1, (1, 2), (0, -1)])
def test_other_norms(check: Callable[..., None], p: float, dim: Any) -> None:
    check(
        lambda x: F.normalize(x, p, dim, 0.25),
        lambda x: TF.normalize(x, p, dim, 0.25),
        (2, 3, 4),
        dynamic=[("N", 3, "L")],
        rtol64=1e-6,
        through_torch=True,
    )


def test_zeros(check: Callable[..., None]) -> None:
    x = np.array([[0.0, 0, 0], [0, -2, 1]], np.float32)
    for p in (0, 1, 2, 3, float("inf")):
        check(lambda x, p=p: F.normalize(x, p), lambda x, p=p: TF.normalize(x, p), x, rtol64=1e-6)


def test_what_is_refused(net: Any, raises: Callable[..., object]) -> None:
    x = net.input("x", (2, 3))
    with raises(UnsupportedError, "out="):
        F.normalize(x, out=x)
    with raises(UnsupportedError, "floating-point", "int64"):
        F.normalize(x.long())
    with raises(ShapeError, "normalize: dim is out of range"):
        F.normalize(x, dim=2)
