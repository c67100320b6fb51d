"""Sums over images, factors of channels, and columns that go to places, against PyTorch."""

from __future__ import annotations

import pytest
import torch
from tactics.oracles import HALVES, assert_rounded, finished, summed, values, wide

from trtnet.engines.torch.tactics.columns import copy_columns, put_columns
from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
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


@pytest.mark.parametrize("columns", [1, 24, 58, 1500])
@pytest.mark.parametrize("rows", [1, 37, 0])
def test_columns_in_two_tensors(rows, columns, place):
    """Some go to one, the others to the other in another order, and each third to both."""
    x = values(0, rows, columns + 3, dtype=torch.float16, at=place)[:, 2 : columns + 2]
    first, second = list(range(0, columns, 2)), list(range(columns))[::-3]
    begins = (5, 5 + rows * len(first) + 7)
    entries = [
        (column, begin + i, len(which))
        for begin, which in zip(begins, (first, second), strict=True)
        for i, column in enumerate(which)
    ]
    into = torch.full((begins[1] + rows * len(second) + 9,), 7.0, device=place).half()
    places = torch.tensor(sorted(entries), dtype=torch.int64, device=place).t().contiguous()
    assert put_columns(x, places, into) is into
    rest = into.clone()
    for begin, which in zip(begins, (first, second), strict=True):
        own = slice(begin, begin + rows * len(which))
        assert torch.equal(into[own].view(rows, len(which)), x[:, which])
        rest[own] = 7
    assert (rest == 7).all()


@pytest.mark.parametrize("shape", [(1, 1), (33, 40), (3, 1025)], ids=str)
def test_factors_and_terms_of_rows_with_gaps(shape, place):
    m, c = shape
    x = values(0, m, c + 7, dtype=torch.float16, at=place)[:, 3 : c + 3]
    whole = values(1, m, c + 8, dtype=torch.float16, at=place)
    before, out = whole.clone(), whole[:, :c]
    scale, shift = (values(seed, c, dtype=torch.float16, at=place) for seed in (1, 2))
    how = Epilogue(Activation("relu"), NOTHING)
    wanted = finished(wide(x) * wide(scale), wide(shift), None, None, how)
    assert_rounded(scale_shift(x, scale, shift, how), wanted, torch.float16)
    assert scale_shift(x, scale, shift, how, out) is out
    assert_rounded(out, wanted, torch.float16)
    assert torch.equal(whole[:, c:], before[:, c:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int8], ids=str)
@pytest.mark.parametrize("rows", [1, 37, 2100, 0])
@pytest.mark.parametrize("sizes", [(5,), (64, 32), (1, 16, 3), (7, 0, 2, 40, 1, 9)], ids=str)
def test_columns_are_copied_to_their_places(sizes, rows, dtype, place):
    """Some are rows with gaps, and what nothing is put to stays."""
    wide_ones = [torch.randn(rows, 3 * n + 2) * 20 for n in sizes]
    parts = [x.to(place, dtype)[:, i % 2 : n + i % 2]
             for i, (x, n) in enumerate(zip(wide_ones, sizes, strict=True))]  # fmt: skip
    parts[0] = parts[0].contiguous()
    y = (torch.randn(rows, sum(sizes) + 2 * len(sizes)) * 20).to(place, dtype)
    begins = [sum(sizes[:i]) + 2 * i for i in range(len(sizes))][::-1]
    wanted = y.clone()
    for part, begin in zip(parts[::-1], begins, strict=True):
        wanted[:, begin : begin + part.shape[1]] = part
    copy_columns(parts[::-1], begins, y)
    assert torch.equal(y, wanted)


def test_nan_stays_in_its_column(place):
    x = values(0, 4, 3, dtype=torch.float16, at=place)
    x[:, 0] = float("nan")
    entries = [(0, 4, 1), (2, 0, 1)]
    into = torch.zeros(9, dtype=torch.float16, device=place)
    put_columns(x, torch.tensor(entries, device=place).t().contiguous(), into)
    assert torch.equal(into[:4], x[:, 2])
    assert into[4:8].isnan().all()
    assert into[8] == 0
