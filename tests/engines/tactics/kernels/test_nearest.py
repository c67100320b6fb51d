"""Images of the nearest pixels by their kernel: PyTorch's, and by each rule of the reference."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from tactics.oracles import HALVES, values

from trtnet.engines.torch.nearest import Step, step_of, take_nearest
from trtnet.reference.resize import interpolate

LAST = torch.channels_last
TRANSFORMATIONS = ("ASYMMETRIC", "HALF_PIXEL", "ALIGN_CORNERS")
ROUNDINGS = ("FLOOR", "CEIL", "HALF_UP", "HALF_DOWN")
SIZES = [((2, 16, 5, 7), (10, 14)), ((1, 3, 4, 3), (12, 3)), ((1, 260, 3, 2), (7, 5)),
         ((2, 1, 9, 1), (4, 1)), ((1, 8, 6, 70), (3, 141))]  # fmt: skip
HOW = {"mode": "NEAREST", "selector": "FORMULA", "cubic": -0.75, "exclude_outside": False}


def image(*shape, place, dtype=torch.float16):
    return values(0, *shape, dtype=dtype, at=place).contiguous(memory_format=LAST)


def taken(x, size, transformation, rounding):
    steps = [step_of(n, count, None, transformation, "FORMULA", rounding)
             for n, count in zip(x.shape[2:], size, strict=True)]  # fmt: skip
    return take_nearest(x, list(size), steps)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "size"), SIZES, ids=str)
def test_as_pytorch_does(shape, size, dtype, place):
    """Larger and smaller; channels that are no multiple of 8, and more than a program's."""
    x = image(*shape, place=place, dtype=dtype)
    found = taken(x, size, "ASYMMETRIC", "FLOOR")
    assert found.is_contiguous(memory_format=LAST)
    assert found.dtype is dtype
    assert torch.equal(found.cpu(), F.interpolate(x.cpu(), size, mode="nearest"))


@pytest.mark.parametrize("channels", [(8, 16, 40), (3, 5, 9)], ids=str)
def test_gaps(channels, place):
    """Some of the channels of an image are read, and written to some of those of another."""
    begin, count, whole = channels
    x = image(2, whole, 4, 3, place=place)[:, begin : begin + count]
    y = image(2, whole + count, 8, 6, place=place)
    before, out = y.cpu().clone(), y[:, whole - begin : whole - begin + count]
    steps = [step_of(n, 2 * n, None, "ASYMMETRIC", "FORMULA", "FLOOR") for n in (4, 3)]
    assert take_nearest(x, [8, 6], steps, out) is out
    wanted = F.interpolate(x.cpu(), scale_factor=2, mode="nearest")
    before[:, whole - begin : whole - begin + count] = wanted
    assert torch.equal(y.cpu(), before)


@pytest.mark.parametrize("size", [(10, 14), (3, 11)], ids=str)
def test_as_pytorch_does_with_exact_positions(size, place):
    x = image(1, 8, 5, 7, place=place)
    found = taken(x, size, "HALF_PIXEL", "HALF_DOWN")
    assert torch.equal(found.cpu(), F.interpolate(x.cpu(), size, mode="nearest-exact"))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_every_rule(transformation, rounding, place):
    x = image(1, 8, 5, 6, place=place)
    for size in ((10, 18), (3, 4), (1, 13)):
        found = taken(x, size, transformation, rounding).cpu()
        how = {**HOW, "transformation": transformation, "rounding": rounding}
        assert torch.equal(found, interpolate(x.cpu(), (1, 8, *size), scales=None, **how))


def test_positions_in_integers_are_those_of_the_reference():
    """For all sizes up to 24; they are compared with it, and there is one for each."""
    for n, count in itertools.product(range(1, 25), repeat=2):
        for transformation, rounding in itertools.product(TRANSFORMATIONS, ROUNDINGS):
            assert step_of(n, count, None, transformation, "FORMULA", rounding) is not None


@pytest.mark.parametrize("scale", [2.0, 1.5, 1 / 3])
def test_scales(scale):
    """A scale that is not the ratio of the sizes has no such positions, or the same."""
    how = ("HALF_PIXEL", "FORMULA", "FLOOR")
    assert step_of(8, int(8 * 2.0), 2.0, *how) == step_of(8, 16, None, *how)
    found = step_of(7, int(7 * scale), scale, *how)
    assert found in (None, step_of(7, int(7 * scale), None, *how))


def test_a_single_pixel_from_above_and_large_sizes():
    assert step_of(5, 1, None, "HALF_PIXEL", "UPPER", "FLOOR") is None
    assert step_of(4, 4, None, "HALF_PIXEL", "FORMULA", "CEIL") == Step(1, 0, 1)
    assert step_of(40_000, 80_000, None, "ASYMMETRIC", "FORMULA", "FLOOR") is None
