"""unfold and fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError
from trtnet.nn import functional as F

TF = torch.nn.functional
WINDOWS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": (2, 3), "dilation": (2, 1), "stride": (1, 2), "padding": (0, 2)},
    {"kernel_size": (1, 4), "stride": 3, "padding": (1, 2)},
    {"kernel_size": (3, 2), "stride": 2, "dilation": 2, "padding": 1},
    {"kernel_size": (2, 3), "stride": (2, 3), "padding": 1},
]


@pytest.mark.parametrize("options", WINDOWS)
def test_unfold(check: Any, options: Any) -> None:
    functions = lambda x: F.unfold(x, **options), lambda x: TF.unfold(x, **options)
    check(*functions, (2, 3, 6, 7), dynamic=[("N", "C", "H", "W")], through_torch=True)
    check(*functions, (3, 6, 7), dynamic=[(3, "H", 7)], through_torch=True)


@pytest.mark.parametrize("options", WINDOWS)
def test_fold(check: Any, options: Any) -> None:
    size = (6, 7)
    columns = TF.unfold(torch.zeros(2, 3, *size), **options).shape
    functions = lambda x: F.fold(x, size, **options), lambda x: TF.fold(x, size, **options)
    check(*functions, tuple(columns), dynamic=[("N", columns[1], None)], through_torch=True)
    check(*functions, tuple(columns[1:]), through_torch=True)


@pytest.mark.parametrize("options", WINDOWS)
def test_fold_to_the_size_of_another_tensor(check: Any, options: Any) -> None:
    """What is unfolded is folded again: each element times the number of its windows."""
    check(
        lambda x: F.fold(F.unfold(x, **options), x.shape[2:], **options),
        lambda x: TF.fold(TF.unfold(x, **options), x.shape[2:], **options),
        (2, 3, 6, 7),
        dynamic=[("N", 3, "H", "W")],
    )


def test_fold_moves_infinite_values_of_windows_side_by_side(check: Any) -> None:
    x = np.zeros((1, 4, 4), np.float32)
    x[0, 1, 2] = np.inf
    check(lambda x: F.fold(x, 4, 2, stride=2), lambda x: TF.fold(x, 4, 2, stride=2), x)


def test_layers(check_module: Any) -> None:
    check_module(nn.Unfold((2, 3), 1, 1, 2), torch.nn.Unfold((2, 3), 1, 1, 2), (2, 3, 6, 7))
    check_module(
        nn.Fold((4, 5), 2, padding=1), torch.nn.Fold((4, 5), 2, padding=1), (2, 12, 30),
        dynamic=[("N", 12, 30)],
    )  # fmt: skip


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (1, 3, 4, 5))
    with raises(ShapeError, "unfold: no window fits", "(5, 5)"):
        F.unfold(x, 5)
    with raises(ShapeError, "stride is too small", "at least 1"):
        F.unfold(x, 2, stride=0)
    with raises(ShapeError, "unfold", "rank 4 or 3"):
        F.unfold(net.input("y", (4, 5)), 2)
    columns = net.input("c", (1, 8, 9))
    with raises(ShapeError, "fold: the columns do not fit", "a multiple of 4, 16"):
        F.fold(columns, 5, 2)
    with raises(ShapeError, "a multiple of 9"):
        F.fold(columns, 5, 3)
