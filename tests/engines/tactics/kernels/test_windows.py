"""Attention of windows by its kernel, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
from tactics.oracles import HALVES_OF_PRODUCTS, assert_rounded, values, wide

from trtnet.engines.torch.tactics.calls import attention_of_windows
from trtnet.engines.torch.tactics.windows import window_attention


def attention(query, key, value, biases, scale):
    scores = wide(query) @ wide(key).mT * scale
    for bias in biases:
        scores = scores + wide(bias)
    return scores.softmax(-1) @ wide(value)


def heads(b, w, h, t, d, dtype, place, joined=True):
    """Query, key and value; `joined` as one linear layer gives them, with gaps between tokens."""
    if not joined:
        return [values(seed, b, w, h, t, d, dtype=dtype, at=place) for seed in range(3)]
    rows = values(0, b, w, t, 3, h, d, dtype=dtype, at=place)
    return rows.permute(3, 0, 1, 4, 2, 5).unbind(0)


BIASES = {
    "none": [],
    "one of heads": [(1, 1, 3, 0, 0)],
    "one of all": [(2, 4, 3, 0, 0)],
    "two": [(1, 1, 3, 0, 0), (1, 4, 1, 0, 0)],
}


@pytest.mark.parametrize("dtype", HALVES_OF_PRODUCTS, ids=str)
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("which", BIASES)
def test_biases(which, joined, dtype, place):
    t = 9
    given = heads(2, 4, 3, t, 8, dtype, place, joined)
    biases = [
        values(7 + i, *shape[:3], t, t, dtype=dtype, at=place)
        for i, shape in enumerate(BIASES[which])
    ]
    found = window_attention(*given, tuple(biases), 0.25, 4)
    assert found.shape == (2, 4, 3, t, 8)
    assert found.transpose(2, 3).is_contiguous()  # heads beside each other, as what follows wants
    assert_rounded(found, attention(*given, biases, 0.25), dtype, 3)  # the weights are rounded too


@pytest.mark.parametrize("warps", [2, 8])
@pytest.mark.parametrize(
    ("t", "d"), [(1, 1), (1, 32), (16, 16), (17, 5), (49, 32), (64, 24), (128, 128)]
)
def test_sizes(t, d, warps, place):
    given = heads(1, 2, 1, t, d, torch.float16, place)
    bias = values(5, 1, 2, 1, t, t, dtype=torch.float16, at=place)
    found = window_attention(*given, (bias,), d**-0.5, warps)
    assert_rounded(found, attention(*given, [bias], d**-0.5), torch.float16, 3)


def test_masked_tokens_have_no_weight(place):
    given = heads(1, 2, 2, 12, 8, torch.float16, place)
    mask = torch.zeros(1, 2, 1, 12, 12, dtype=torch.float16, device=place)
    mask[:, 0, :, :, 6:] = -float("inf")
    mask[:, 1, :, :5] = -100.0  # the same for all of a row: nothing changes
    found = window_attention(*given, (mask,), 1.0, 2)
    assert_rounded(found, attention(*given, [mask], 1.0), torch.float16, 3)


def test_nan_stays_in_its_head(place):
    query, key, value = (x.clone() for x in heads(1, 1, 2, 6, 4, torch.float16, place))
    query[0, 0, 1, 2, 0] = float("nan")
    found = window_attention(query, key, value, (), 1.0, 2)
    assert_rounded(found, attention(query, key, value, (), 1.0), torch.float16, 3)
    assert found.isnan().any(-1).sum() == 1


@pytest.mark.parametrize("shape", [(0, 2, 2, 4, 4), (1, 0, 2, 4, 4)], ids=str)
def test_no_windows(shape, place):
    given = heads(*shape, torch.float16, place)
    assert window_attention(*given, (), 1.0, 2).shape == shape


@pytest.mark.parametrize("axes", [4, 5])
def test_tensors_of_four_and_five_axes(axes, place):
    given = heads(1, 4, 3, 10, 8, torch.float16, place)
    bias = values(8, 3, 10, 10, dtype=torch.float16, at=place)
    mask = values(9, 4, 1, 10, 10, dtype=torch.float16, at=place)
    wanted = attention(*given, [bias, mask], 0.5)
    if axes == 4:
        given, wanted = [x[0] for x in given], wanted[0]
    found = attention_of_windows(*given, bias, mask, scale=0.5, warps=4)
    assert found.dim() == axes
    assert_rounded(found, wanted, torch.float16, 3)


def test_features_far_from_each_other_are_copied(place):
    given = [x.mT.contiguous().mT for x in heads(1, 2, 2, 6, 8, torch.float16, place)]
    assert given[0].stride(-1) != 1
    found = attention_of_windows(*given, None, None, scale=0.5, warps=4)
    assert_rounded(found, attention(*given, [], 0.5), torch.float16, 3)
