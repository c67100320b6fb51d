"""Index operators in half precision, and as methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import ops
from trtnet.nn import functional as F


@pytest.mark.parametrize("value", [float(torch.finfo(torch.float32).min), -1e9, -np.inf, -65504])
def test_masks_of_half_precision_take_the_values_of_float32(value: float) -> None:
    net = trtnet.Network("rtx", precision="fp16")
    x = np.array([[1.0, 2, 3]], np.float32)
    scores = F.linear(net.input("x", x.shape), np.eye(3, dtype=np.float32))
    assert scores.dtype is trtnet.float16
    masked = scores.masked_fill(np.array([False, True, False]), value)
    assert masked.dtype is trtnet.float16
    net.output("y", F.softmax(masked, 1))
    got = trtnet.reference.run(net.definition, {"x": x})["y"]
    wanted = torch.tensor(x).masked_fill(torch.tensor([False, True, False]), value).softmax(1)
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.scatter_add(1, torch.tensor([[0, 0, 0]]), x),
        lambda x: x.cumsum(1),
        lambda x: x.cumprod(1),
        lambda x: x.logcumsumexp(1),
        lambda x: x.cummax(1)[0],
        lambda x: x.sort(dim=1, stable=True)[0],
        lambda x: x.median(1)[0],
        lambda x: x.index_fill(1, torch.tensor([1]), 0.5),
        lambda x: x[:, [2, 0]],
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(function: Any, precision: str) -> None:
    net = trtnet.Network("rtx", precision=precision)
    x = np.array([[1.0, -2, 0.75]], np.float32)
    half = F.linear(net.input("x", x.shape), np.eye(3, dtype=np.float32))
    net.output("y", function(half))
    got = trtnet.reference.run(net.definition, {"x": x})["y"]
    np.testing.assert_allclose(got, function(torch.tensor(x)).numpy(), rtol=2e-2)


@pytest.mark.parametrize(
    "function",
    [
        *(ops.argsort, ops.argwhere, ops.cummax, ops.cummin, ops.cumprod, ops.cumsum, ops.diag),
        *(ops.diag_embed, ops.diagonal, ops.diff, ops.flip, ops.fliplr, ops.flipud),
        *(ops.index_add, ops.index_copy, ops.index_fill, ops.index_put, ops.index_reduce),
        *(ops.kthvalue, ops.logcumsumexp, ops.masked_fill, ops.masked_scatter, ops.median),
        *(ops.msort, ops.nonzero, ops.repeat_interleave, ops.rot90, ops.scatter_add),
        *(ops.scatter_reduce, ops.select, ops.select_scatter, ops.slice_scatter, ops.sort),
        *(ops.take, ops.take_along_dim, ops.tile, ops.tril, ops.triu, ops.unique),
        *(ops.unique_consecutive, ops.masked_select, ops.scatter, ops.bucketize, ops.isin),
    ],
)
def test_functions_are_methods(function: Any) -> None:
    assert getattr(trtnet.Tensor, function.__name__) is function


def test_windows_are_a_method_under_the_name_of_pytorch() -> None:
    assert trtnet.Tensor.unfold is ops.unfold_dimension
