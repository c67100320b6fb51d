"""Sums over images, factors of channels, and channels in another order, against PyTorch."""

from __future__ import annotations

import pytest
import torch
from tactics.oracles import HALVES, assert_rounded, finished, summed, values, wide

from trtnet.engines.torch.tactics.columns import take_columns
from trtnet.engines.torch.tactics.epilogue import Activation, Epilogue
from trtnet.engines.torch.tactics.image_sums import Division, Sum, divisions, image_sums
from trtnet.engines.torch.tactics.pointwise import scale_shift

MEAN, ROOT = Sum(is_mean=True), Sum(of_squares=True, is_root=True)
SUMS = (MEAN, ROOT, Sum(), Sum(of_squares=True, is_mean=True))


@pytest.mark.parametrize("how", SUMS, ids=str)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 49, 40), (3, 65, 17), (1, 300, 8)], ids=str)
@pytest.mark.parametrize(
    "division", [Division(64, 32, 4), Division(16, 128, 4, 4), Division(8, 8, 1, 7)], ids=str
)
def test_sums(division, shape, dtype, how, place):
    x = values(0, *shape, dtype=dtype, at=place) + 1
    found = image_sums(x, how, dtype, division)
    assert_rounded(found, summed(wide(x), how), dtype)
    exact = image_sums(x, how, torch.float32, division)
    torch.testing.assert_close(exact.cpu().double(), summed(wide(x), how), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("division", [Division(16, 8, 1), Division(4, 8, 1, 3)], ids=str)
@pytest.mark.parametrize("how", [MEAN, ROOT], ids=str)
def test_sums_that_are_not_finite(how, division, place):
    x = values(0, 2, 20, 6, dtype=torch.float16, at=place)
    x[0, 3, 1], x[0, 19, 2], x[1, 0, 3] = float("nan"), float("inf"), -float("inf")
    x[1, :, 5] = 60000 if how is MEAN else 3000  # the sum is none in half precision
    assert_rounded(image_sums(x, how, torch.float16, division), summed(wide(x), how), torch.float16)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 4, 0), (2, 0, 5)], ids=str)
def test_means_of_nothing(shape, place):
    x = torch.empty(shape, dtype=torch.float16, device=place)
    found = image_sums(x, MEAN, torch.float16, Division(16, 8, 1))
    torch.testing.assert_close(found, x.mean(1), equal_nan=True)


@pytest.mark.parametrize("images", [1, 64])
@pytest.mark.parametrize(("pixels", "channels"), [(1, 8), (49, 3072), (3136, 384)])
def test_all_divisions_cover_each_pixel_once(images, pixels, channels):
    found = divisions(images, pixels, channels)
    assert len(set(found)) == len(found) >= 4
    for division in found:
        assert division.parts == 1 or division.parts * division.rows <= pixels


@pytest.mark.parametrize("images", [1, 3, 7])
@pytest.mark.parametrize("channels", [5, 48, 1025])
def test_factors_of_each_image(channels, images, place):
    x = values(0, 21, channels, dtype=torch.float16, at=place)
    scale = values(1, images, channels, dtype=torch.float16, at=place)
    found = scale_shift(x, scale, None, Epilogue())
    wanted = wide(x) * wide(scale).repeat_interleave(21 // images, 0)
    assert_rounded(found, wanted, torch.float16)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (33, 40), (3, 1025), (0, 4)], ids=str)
def test_factors_and_terms_of_channels(shape, dtype, place):
    x = values(0, *shape, dtype=dtype, at=place)
    before = x.clone()
    scale, shift = (values(seed, shape[1], dtype=dtype, at=place) for seed in (1, 2))
    how = Epilogue(Activation("silu"), Activation("relu"))
    found = scale_shift(x, scale, shift, how)
    wanted = finished(wide(x) * wide(scale), wide(shift), None, None, how)
    assert_rounded(found, wanted, dtype)
    assert torch.equal(x, before)


@pytest.mark.parametrize("sizes", [(1, 1), (12, 12), (5, 40), (130, 2)], ids=str)
@pytest.mark.parametrize("rows", [1, 37, 0])
def test_columns_of_two(rows, sizes, place):
    a = values(0, rows, sizes[0] + 3, dtype=torch.float16, at=place)[:, 2 : sizes[0] + 2]
    b = values(1, rows, sizes[1], dtype=torch.float16, at=place)
    both = torch.cat([a, b], 1)
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(0))
    which = (order >= sizes[0]).int()
    at = order - which * sizes[0]
    found = take_columns(a, b, which.to(place), at.int().to(place), 4)
    assert torch.equal(found, both[:, order.to(place)])


def test_nan_stays_in_its_column(place):
    a, b = (values(seed, 4, 3, dtype=torch.float16, at=place) for seed in (0, 1))
    a[:, 0] = float("nan")
    which, at = (torch.tensor(v, dtype=torch.int32, device=place) for v in ([1, 0], [0, 0]))
    found = take_columns(a, b, which, at, 1)
    assert torch.equal(found[:, 0], b[:, 0])
    assert found[:, 1].isnan().all()
