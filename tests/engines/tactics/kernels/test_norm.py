"""Layer normalisation by its kernel, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tactics.oracles import assert_rounded, values, wide

from trtnet.engines.torch.tactics.norm import fits, layer_norm

TYPES = (torch.float16, torch.bfloat16, torch.float32)


def check(rows, features, given, made, warps, place, shift=0.0):
    x = (values(0, rows, features, dtype=torch.float32, at=place) + shift).to(given)
    factor, term = (values(seed, features, dtype=torch.float32, at=place) for seed in (1, 2))
    found = layer_norm(x, factor, term, 1e-5, made, warps)
    wanted = F.layer_norm(wide(x), (features,), wide(factor), wide(term), 1e-5)
    if made is torch.float32:
        torch.testing.assert_close(
            found.cpu().double(), wanted, rtol=1e-4, atol=1e-6 + 2e-6 * shift
        )
        assert found.dtype is made
    else:
        assert_rounded(found, wanted, made)


@pytest.mark.parametrize("warps", [1, 4, 8])
@pytest.mark.parametrize("features", [1, 2, 7, 96, 100, 768, 1023, 1024, 1500])
def test_any_number_of_features(features, warps, place):
    check(5, features, torch.float16, torch.float16, warps, place)


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 50])
def test_any_number_of_rows(rows, place):
    check(rows, 24, torch.float16, torch.float16, 4, place)


@pytest.mark.parametrize("given", TYPES, ids=str)
@pytest.mark.parametrize("made", TYPES, ids=str)
def test_types(given, made, place):
    check(3, 72, given, made, 4, place)


def test_a_mean_far_from_zero(place):
    """The variance is not the difference of two large numbers."""
    check(3, 64, torch.float32, torch.float32, 1, place, shift=300.0)


def test_half_precision_parameters(place):
    x, factor, term = (
        values(seed, *shape, dtype=torch.float16, at=place)
        for seed, shape in enumerate([(4, 40), (40,), (40,)])
    )
    found = layer_norm(x, factor, term, 1e-3, torch.float16, 1)
    wanted = F.layer_norm(wide(x), (40,), wide(factor), wide(term), 1e-3)
    assert_rounded(found, wanted, torch.float16)


def test_nan_and_infinities_stay_in_their_rows(place):
    x = values(0, 4, 20, dtype=torch.float16, at=place)
    x[1, 3], x[2, 5] = float("nan"), float("inf")
    one, zero = (torch.full((20,), value, device=place) for value in (1.0, 0.0))
    found = layer_norm(x, one, zero, 1e-5, torch.float16, 4)
    wanted = F.layer_norm(wide(x), (20,), eps=1e-5)
    assert_rounded(found, wanted, torch.float16)
    assert found.isnan().any(1).tolist() == [False, True, True, False]


def test_no_rows(place):
    some = torch.ones(8, device=place)
    found = layer_norm(some.new_empty(0, 8).half(), some, some, 1e-5, torch.float16, 1)
    assert found.shape == (0, 8)


def test_what_fits():
    assert [fits(n) for n in (0, 1, 8192, 8193)] == [False, True, True, False]
