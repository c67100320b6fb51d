"""Vectors of unit length against PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trtnet.errors import UnsupportedError
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


def test_other_lengths_are_refused(net, raises: Callable[..., object]) -> None:
    x = net.input("x", (2, 3))
    with raises(UnsupportedError, "Euclidean", "p=1"):
        F.normalize(x, p=1)
