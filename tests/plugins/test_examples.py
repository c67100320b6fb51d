"""Inputs by which a plugin is tested: seeded, of the shapes and types that were asked for."""

from __future__ import annotations

import numpy as np

import trtnet
from trtnet.plugins.examples import Draw, as_type


def test_equal_seeds_give_equal_inputs() -> None:
    for seed in range(5):
        first, second = (Draw(seed).alike(2) for _ in range(2))
        assert len({array.shape for array in (*first, *second)}) == 1
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first[0], first[1])


def test_axes_of_one_name_have_one_size() -> None:
    for seed in range(20):
        boxes, scores = Draw(seed).named("N K 4", "N K")
        assert boxes.shape == (*scores.shape, 4)
        assert all(1 <= n <= 6 for n in scores.shape)


def test_sizes_stay_within_their_limits_and_are_sometimes_zero() -> None:
    draw = Draw(0, largest=17, empty=True)
    sizes = [draw.size(2) for _ in range(1000)]
    assert set(sizes) == {0, *range(2, 18)}
    assert 20 < sizes.count(0) < 100
    assert {Draw(seed, largest=64, smallest=64).size() for seed in range(9)} == {64}
    assert {Draw(seed).size(3, 3) for seed in range(9)} == {3}
    assert Draw(0, largest=9, smallest=9, rank=4).alike(1)[0].shape == (9, 9, 9, 9)


def test_values_suit_the_type() -> None:
    drawn = Draw(0).array(1000)
    assert as_type(drawn, trtnet.float16) is drawn
    bytes_ = as_type(drawn, trtnet.uint8)
    assert bytes_.dtype == np.int64
    assert 0 == bytes_.min() < bytes_.max() < 256
    assert set(np.unique(as_type(drawn, trtnet.bool_))) == {False, True}
    indices = np.arange(3)
    assert as_type(indices, trtnet.int32) is indices
