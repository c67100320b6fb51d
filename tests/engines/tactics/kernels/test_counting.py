"""How many boxes of a mask are better than each, by its kernel, against all pairs in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trtnet.engines.torch.counting import count_better


def by_pairs(mask, scores, order):
    mine, other = scores[:, None, :], scores[:, :, None]
    first = order[:, :, None] < order[:, None, :]
    better = (other > mine) | ((other == mine) & first)
    return (better & mask[:, :, None]).sum(1).astype(np.float32)


@pytest.mark.parametrize("order_type", [np.int32, np.int64])
@pytest.mark.parametrize("count", [1, 63, 64, 130, 257])
def test_counts(count, order_type, place):
    rng = np.random.default_rng(count)
    scores = rng.choice([0.25, 0.5, np.nan, np.inf, -np.inf, -0.0, 0.0], (3, count))
    order = np.stack([rng.permutation(count) for _ in range(3)]).astype(order_type)
    order[2] = 7  # none before another
    given = (rng.random((3, count)) < 0.7, scores.astype(np.float32), order)
    found = count_better(*(torch.from_numpy(x).to(place) for x in given))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.cpu().numpy(), by_pairs(*given))


def test_strides(place):
    mask = torch.ones(1, 5, dtype=torch.bool, device=place).expand(2, 5)
    scores = torch.tensor([[3.0, 1.0], [1, 2], [2, 3], [9, 4], [0, 5]], device=place).T
    order = torch.arange(5, device=place).expand(2, 5)
    assert count_better(mask, scores, order).tolist() == [[1, 3, 2, 0, 4], [4, 3, 2, 1, 0]]


@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_nothing(shape, place):
    x = torch.zeros(shape, device=place)
    assert count_better(x > 0, x, x.long()).shape == shape
