"""Vectors of length 1 by their kernel, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tactics.oracles import HALVES, assert_rounded, values, wide

from trtnet.engines.torch.tactics.calls import units
from trtnet.engines.torch.tactics.windows import unit_vectors


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 3, 2, 7, 5), (1, 2, 1, 64, 32)], ids=str)
def test_lengths(shape, dtype, place):
    x = values(0, *shape, dtype=dtype, at=place)
    found = unit_vectors(x, 1e-12, dtype, 2)
    assert found.is_contiguous()
    assert_rounded(found, F.normalize(wide(x), dim=-1), dtype)


def test_zero_small_and_infinite_vectors(place):
    x = torch.ones(1, 1, 1, 5, 4, dtype=torch.float16, device=place)
    x[..., 0, :], x[..., 1, :] = 0, 1e-4
    x[..., 2, 1], x[..., 3, 1] = float("nan"), float("inf")
    found = unit_vectors(x, 1e-2, torch.float16, 2)
    wanted = wide(x) / wide(x).norm(dim=-1, keepdim=True).clamp(min=1e-2)
    assert_rounded(found, wanted, torch.float16)


@pytest.mark.parametrize("axes", [4, 5])
def test_four_and_five_axes(axes, place):
    x = values(0, 1, 4, 9, 3, 2, 8, dtype=torch.float16, at=place).permute(4, 0, 1, 3, 2, 5)[1]
    wanted = F.normalize(wide(x), dim=-1)
    x, wanted = (x, wanted) if axes == 5 else (x[0], wanted[0])
    for given in (x, x.mT.contiguous().mT):
        found = units(given, epsilon=1e-12, dtype=torch.float16, warps=2)
        assert_rounded(found, wanted, torch.float16)


def test_nothing(place):
    x = torch.empty(0, 2, 2, 4, 4, dtype=torch.float16, device=place)
    assert unit_vectors(x, 1e-12, torch.float16, 2).shape == x.shape
