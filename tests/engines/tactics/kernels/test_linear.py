"""Products with an epilogue by their kernel, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
from tactics.oracles import (
    ACTIVATIONS,
    HALVES_OF_PRODUCTS,
    activated,
    assert_rounded,
    finished,
    values,
    wide,
)

from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.linear import TILES, linear, tiles

TILE = TILES[0]


def operands(m, n, k, dtype, place):
    """x, weight, bias, factor and other."""
    x, other = (values(seed, m, size, dtype=dtype, at=place) for seed, size in ((0, k), (1, n)))
    weight = values(2, n, k, dtype=torch.float32, at=place) / max(k, 1) ** 0.5
    bias, factor = (values(seed, n, dtype=dtype, at=place) for seed in (3, 4))
    return x, weight.to(dtype), bias, factor, other


def expected(x, weight, bias, factor, other, how):
    return finished(wide(x) @ wide(weight).T, *map(wide, (bias, factor, other)), how)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles(tile, place):
    x, weight, bias, factor, other = operands(50, 70, 72, torch.float16, place)
    how = Epilogue(Activation("gelu"), NOTHING, True, True)
    found = linear(x, weight, bias, factor, other, None, None, None, how, tile)
    assert_rounded(found, expected(x, weight, bias, factor, other, how), torch.float16)


@pytest.mark.parametrize("dtype", HALVES_OF_PRODUCTS, ids=str)
@pytest.mark.parametrize("first", ACTIVATIONS, ids=lambda how: how.kind)
def test_activations(first, dtype, place):
    x, weight, bias, factor, other = operands(19, 21, 13, dtype, place)
    last = ACTIVATIONS[ACTIVATIONS.index(first) - 4]
    how = Epilogue(first, last, True, True)
    found = linear(x, weight, bias, factor, other, None, None, None, how, TILE)
    assert_rounded(found, expected(x, weight, bias, factor, other, how), dtype)


@pytest.mark.parametrize(
    "size",
    [(1, 1, 1), (1, 40, 33), (49, 1, 64), (17, 33, 128), (300, 10, 16), (3, 5, 257)],
    ids=str,
)
@pytest.mark.parametrize("tile", [TILES[0], TILES[6]], ids=str)
def test_odd_sizes(size, tile, place):
    x, weight, bias, _, other = operands(*size, torch.float16, place)
    how = Epilogue(Activation("relu"), NOTHING, False, True)
    found = linear(x, weight, bias, None, other, None, None, None, how, tile)
    assert_rounded(found, expected(x, weight, bias, None, other, how), torch.float16)


@pytest.mark.parametrize("parts", ["", "bias", "factor", "other"])
def test_parts(parts, place):
    x, weight, *rest = operands(20, 24, 16, torch.float16, place)
    names = ("bias", "factor", "other")
    rest = [part if name == parts else None for name, part in zip(names, rest, strict=True)]
    how = Epilogue(has_factor=rest[1] is not None, has_other=rest[2] is not None)
    found = linear(x, weight, *rest, None, None, None, how, TILE)
    assert_rounded(found, expected(x, weight, *rest, how), torch.float16)


def test_rows_with_gaps_and_a_weight_by_columns(place):
    x = values(0, 30, 50, dtype=torch.float16, at=place)[:, 7:40]
    weight = values(1, 33, 24, dtype=torch.float16, at=place).t()
    other = values(2, 60, 31, dtype=torch.float16, at=place)[::2, :24]
    how = Epilogue(has_other=True)
    found = linear(x, weight, None, None, other, None, None, None, how, TILE)
    assert_rounded(found, expected(x, weight, None, None, other, how), torch.float16)


@pytest.mark.parametrize("has_source", [True, False])
@pytest.mark.parametrize("depth", [24, 128], ids=["with a rest", "whole"])
def test_a_sum_as_the_left_operand(depth, has_source, place):
    x, weight, bias, *_ = operands(40, 20, depth, torch.float16, place)
    more = values(9, 80, depth + 3, dtype=torch.float16, at=place)[::2, :depth]
    source = torch.arange(39, 5, -1, dtype=torch.int32, device=place) if has_source else None
    how = Epilogue(Activation("silu"))
    found = linear(x, weight, bias, None, None, None, source, None, how, TILE, added=more)
    total = x.cpu() + more.cpu()  # rounded, as in the network
    total = total if source is None else total[source.cpu().long()]
    assert_rounded(found, expected(total, weight, bias, None, None, how), torch.float16)


@pytest.mark.parametrize("before", ACTIVATIONS, ids=lambda how: how.kind)
@pytest.mark.parametrize("depth", [24, 128, 13, 200])
def test_rows_that_are_scaled_first(depth, before, place):
    """They are read as a part of the columns of a larger tensor, which stays as it is."""
    whole = values(9, 41, depth + 16, dtype=torch.float16, at=place)
    stays, x = whole.clone(), whole[:, 8 : depth + 8]
    scale, shift = (values(seed, depth, dtype=torch.float16, at=place) for seed in (7, 8))
    _, weight, bias, factor, other = operands(41, 21, depth, torch.float16, place)
    how = Epilogue(Activation("relu"), NOTHING, True, True)
    given = {"scale": scale, "shift": shift, "before": before}
    found = linear(x, weight, bias, factor, other, None, None, None, how, TILE, **given)
    scaled = activated(wide(x) * wide(scale) + wide(shift), before)
    scaled = scaled.float().half()  # rounded once, as in a pass of its own
    assert_rounded(found, expected(scaled, weight, bias, factor, other, how), torch.float16)
    assert torch.equal(whole, stays)


def test_columns_of_a_larger_tensor(place):
    x, weight, bias, *_ = operands(37, 20, 24, torch.float16, place)
    whole = torch.full((37, 50), 7.0, dtype=torch.float16, device=place)
    found = linear(
        x, weight, bias, None, None, None, None, None, Epilogue(), TILE, out=whole[:, 16:36]
    )
    assert found.data_ptr() == whole[:, 16:36].data_ptr()
    assert_rounded(
        whole[:, 16:36], expected(x, weight, bias, None, None, Epilogue()), torch.float16
    )
    assert (whole[:, :16] == 7).all()
    assert (whole[:, 36:] == 7).all()


@pytest.mark.parametrize("images", [1, 2, 7])
def test_a_gate_of_each_image(images, place):
    x, weight, bias, _, other = operands(42, 20, 24, torch.float16, place)
    gate = values(9, images, 24, dtype=torch.float16, at=place).sigmoid()
    how = Epilogue(Activation("silu"), NOTHING, False, True)
    found = linear(x, weight, bias, None, other, gate, None, None, how, TILE)
    gated = x.cpu() * gate.cpu().repeat_interleave(42 // images, 0)  # rounded, as in the network
    assert_rounded(found, expected(gated, weight, bias, None, other, how), torch.float16)


@pytest.mark.parametrize("has_source", [True, False])
@pytest.mark.parametrize("has_target", [True, False])
def test_rows_from_and_to_other_places(has_source, has_target, place):
    x, weight, bias, factor, other = operands(40, 20, 24, torch.float16, place)
    generator = torch.Generator().manual_seed(3)
    source = torch.randint(40, (33,), generator=generator).int() if has_source else None
    count = 33 if has_source else 40
    target = torch.randperm(count, generator=generator).int() if has_target else None
    how = Epilogue(Activation("relu"), NOTHING, True, True)
    found = linear(
        x, weight, bias, factor, other[:count], None,
        *(None if rows is None else rows.to(place) for rows in (source, target)), how, TILE,
    )  # fmt: skip
    product = wide(x) @ wide(weight).T
    product = product if source is None else product[source.long()]
    product = product if target is None else product[target.long()]
    wanted = finished(product, *map(wide, (bias, factor, other[:count])), how)
    assert_rounded(found, wanted, torch.float16)


@pytest.mark.parametrize("how", ACTIVATIONS, ids=lambda how: how.kind)
def test_nan_and_infinities_stay_in_their_rows(how, place):
    x, weight, bias, *_ = operands(20, 18, 40, torch.float16, place)
    weight = weight.abs() + 0.125
    x[3, 5], x[7, 39], x[11, 0] = float("nan"), float("inf"), -float("inf")
    epilogue = Epilogue(how)
    found = linear(x, weight, bias, None, None, None, None, None, epilogue, TILE)
    wanted = expected(x, weight, bias, None, None, epilogue)
    assert_rounded(found, wanted, torch.float16)
    assert set(found.isnan().any(1).nonzero()[:, 0].tolist()) <= {3, 11}


@pytest.mark.parametrize("size", [(0, 5, 8), (5, 0, 8)], ids=str)
def test_nothing(size, place):
    x, weight, *_ = operands(*size, torch.float16, place)
    found = linear(x, weight, None, None, None, None, None, None, Epilogue(), TILE)
    assert found.shape == size[:2]


def test_an_empty_sum_is_the_epilogue_of_the_bias(place):
    x, weight, bias, *_ = operands(5, 6, 0, torch.float16, place)
    found = linear(x, weight, bias, None, None, None, None, None, Epilogue(), TILE)
    assert torch.equal(found, bias.expand(5, 6))


def test_promising_tiles():
    for size in ((1, 1, 1), (196, 768, 3072), (50176, 96, 384)):
        assert len(tiles(*size, 4)) == 4
        assert set(tiles(*size, 100)) == set(TILES)
        assert tiles(*size, 100)[:4] == tiles(*size, 4)


@pytest.mark.parametrize("tile", [TILES[0], TILES[6], TILES[12]], ids=str)
@pytest.mark.parametrize("size", [(50, 58, 24), (1, 1, 8), (33, 200, 40), (0, 6, 8)], ids=str)
def test_columns_that_go_to_places(size, tile, place):
    """Of two tensors, one after the other: every other column of the first, and the second turned;
    with gaps between the rows of the first."""
    x, weight, bias, factor, other = operands(*size, torch.float16, place)
    m, n, _ = size
    near = n // 3
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    entries = {c: (3 + 2 * i, 2 * near + 1) for i, c in enumerate(order[:near])}
    begin, rest = 3 + m * (2 * near + 1) + 5, order[near:]
    entries |= {c: (begin + i, len(rest)) for i, c in enumerate(rest)}
    places = torch.tensor([(c, *entries[c]) for c in range(n)], device=place).t().contiguous()
    into = torch.full((begin + m * len(rest) + 2,), 7.0, device=place).half()
    how = Epilogue(Activation("relu"), NOTHING, True, True)
    found = linear(
        x, weight, bias, factor, other, None, None, None, how, tile, out=into, places=places
    )
    assert found is into
    wanted = expected(x, weight, bias, factor, other, how)
    rows = torch.arange(m, device=place)[:, None]
    at = places[1] + rows * places[2]
    assert_rounded(into[at], wanted, torch.float16)
    untouched = torch.ones_like(into, dtype=torch.bool)
    untouched[at.flatten()] = False
    assert (into[untouched] == 7).all()
