"""Histograms against counting with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trtnet.quantization.histogram import Histogram
from trtnet.quantization.observer import Observer


def test_counts_are_numpys(values, count):
    lower, upper, counts = count(values).magnitudes()
    edges = np.append(lower, upper[-1])
    assert np.all(np.diff(lower) > 0)
    # rows that hold nothing are left out: between their neighbours there is an empty bin for numpy
    expected, _ = np.histogram(np.abs(values.astype(np.float64)), edges)
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == values.size == count(values).total


def test_a_bin_is_never_wider_than_one_of_2048_up_to_the_largest_magnitude(values, count):
    histogram = count(values)
    lower, upper, counts = histogram.magnitudes()
    assert (upper - lower)[counts > 0].max() <= histogram.amax / 2048


@pytest.mark.parametrize("parts", [2, 7, 1000])
def test_splitting_changes_nothing(values, count, parts):
    whole, split = count(values), count(*np.array_split(values, parts))
    backwards = count(*reversed(np.array_split(values, parts)))
    for other in (split, backwards):
        assert other.amax == whole.amax
        assert other.rows.keys() == whole.rows.keys()
        for row, counts in whole.rows.items():
            np.testing.assert_array_equal(other.rows[row], counts)


def test_largest_magnitude_is_exact(values, count):
    assert count(values).amax == np.abs(values).max()


def test_linear_bins_are_numpys(values, count):
    histogram = count(values)
    counts, width = histogram.linear()
    assert math.frexp(width)[0] == 0.5
    assert 1024 < len(counts) / 2 <= 2048
    assert width * (len(counts) / 2 - 1) < histogram.amax <= width * len(counts) / 2
    half = len(counts) // 2
    negative, positive = -values[values < 0], values[values >= 0]
    expected = [np.histogram(part, half, (0, half * width))[0] for part in (negative, positive)]
    np.testing.assert_array_equal(counts, np.concatenate((expected[0][::-1], expected[1])))


def test_linear_bins_of_a_power_of_two_and_minus_zero(count):
    counts, width = count(np.array([-0.0, 0.0, 1.0, -1.0, -4.0], np.float32)).linear()
    assert (len(counts), width) == (4096, 4 / 2048)
    places = np.flatnonzero(counts)
    # -1.0 and 1.0 are edges: each belongs to the bin farther from zero
    np.testing.assert_array_equal(places, [0, 2047 - 512, 2048, 2048 + 512])
    np.testing.assert_array_equal(counts[places], [1, 1, 2, 1])


def test_what_is_not_finite_is_counted_apart(count):
    values = np.array([1.0, np.nan, np.inf, -np.inf, -3.0, 0.0], np.float32)
    histogram = count(values)
    assert (histogram.total, histogram.nonfinite, histogram.amax) == (6, 3, 3.0)
    assert histogram.magnitudes()[2].sum() == 3
    assert histogram.linear()[0].sum() == 3


@pytest.mark.parametrize(
    ("values", "amax"), [([], 0.0), ([0.0, -0.0], 0.0), ([np.nan, np.inf], 0.0), ([1e-45], 1e-45)]
)
def test_extremes(count, values, amax):
    histogram = count(np.array(values, np.float32))
    assert histogram.amax == np.float32(amax)
    assert histogram.total == len(values)


def test_between_counts_what_fp16_loses(count):
    random = np.random.default_rng(5)
    values = (random.standard_normal(40_000) * 2.0 ** random.uniform(-30, 18, 40_000)).astype("f4")
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    histogram = count(values)
    overflow, underflow = np.isinf(half).sum(), ((half == 0) & (values != 0)).sum()
    assert overflow > 100
    assert underflow > 100
    assert histogram.between(65520, np.inf) == overflow
    assert histogram.between(0, 2**-25) == underflow


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("copies", [1, 10])
def test_a_gpu_counts_the_same(values, count, copies):
    repeated, histogram = np.tile(values, copies), Histogram()
    Observer(histogram)(torch.from_numpy(repeated).cuda())
    expected = count(repeated)
    assert (histogram.amax, histogram.rows.keys()) == (expected.amax, expected.rows.keys())
    for row, counts in expected.rows.items():
        np.testing.assert_array_equal(histogram.rows[row], counts)


def test_many_values_are_counted_as_few_are(values, count):
    """They are counted in another way."""
    few, many = count(values), count(np.tile(values, 10))
    assert few.rows.keys() == many.rows.keys()
    for row, counts in few.rows.items():
        np.testing.assert_array_equal(10 * counts, many.rows[row])
