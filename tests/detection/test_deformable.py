"""Deformable attention in both forms, against ``torch.nn.functional.grid_sample`` map by map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

import trtnet
from trtnet.detection import deformable_attention
from trtnet.detection.deformable import SAMPLINGS
from trtnet.errors import ShapeError, UsageError

SIZES = [(7, 5), (1, 9), (4, 4)]
POINTS = [3, 1, 4]
HEADS, WIDTH, QUERIES = 2, 4, 6


def oracle(sizes, points):
    """The sum over maps, written from the paper's equation with PyTorch's own sampling."""

    def call(value, locations, weights):
        batch, queries, heads = locations.shape[:3]
        total = torch.zeros(batch, queries, heads, value.shape[3], dtype=value.dtype)
        pixel = place = 0
        for (height, width), count in zip(sizes, points, strict=True):
            pixels = value[:, pixel : pixel + height * width]
            at = locations[:, :, :, place : place + count]
            share = weights[:, :, :, place : place + count]
            pixel, place = pixel + height * width, place + count
            for image in range(batch if pixels.numel() else 0):
                for head in range(heads):
                    plane = pixels[image, :, head].T.reshape(1, -1, height, width)
                    grid = at[image, :, head][None] * 2 - 1
                    read = grid_sample(plane, grid, align_corners=False)[0]
                    total[image, :, head] += (read * share[image, :, head]).sum(2).T
        return total.flatten(2)

    return call


def tensors(sizes, points, batch=2, spread=0.4):
    """Values, places of which many are outside, and weights."""
    rng = np.random.default_rng(len(sizes))
    pixels = sum(height * width for height, width in sizes)
    shapes = (batch, pixels, HEADS, WIDTH), (batch, QUERIES, HEADS, sum(points))
    value, weights = (rng.standard_normal(shape) for shape in shapes)
    locations = rng.uniform(-spread, 1 + spread, (*shapes[1], 2))
    return [array.astype(np.float32) for array in (value, locations, weights)]


def run(sizes, points, arrays, sampling, precision="fp32", **options):
    network = trtnet.Network("rtx", precision)
    inputs = [network.input(f"x{i}", array.shape) for i, array in enumerate(arrays)]
    network.output("y", deformable_attention(inputs[0], sizes, points, *inputs[1:], sampling))
    named = {f"x{i}": array for i, array in enumerate(arrays)}
    return trtnet.reference.run(network.definition, named, **options)["y"]


def far(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("spread", [-0.1, 0.4, 4.0])
def test_both_forms_are_pytorchs(sampling, spread):
    arrays = tensors(SIZES, POINTS, spread=spread)
    single = [torch.from_numpy(array) for array in arrays]
    wanted = oracle(SIZES, POINTS)(*(x.double() for x in single)).numpy()
    if spread > 1:
        assert (wanted == 0).any()  # places far outside
    exact = run(SIZES, POINTS, arrays, sampling, float64=True)
    np.testing.assert_allclose(exact, wanted, rtol=1e-12, atol=1e-12)
    found = run(SIZES, POINTS, arrays, sampling)
    assert far(found, oracle(SIZES, POINTS)(*single).numpy()) <= 1e-6


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_engines_build_also_for_a_number_of_images_that_is_not_known(sampling, check):
    arrays = tensors(SIZES, POINTS)
    pixels, places = arrays[0].shape[1], sum(POINTS)
    dynamic = [("B", pixels, HEADS, WIDTH), ("B", "Q", HEADS, places, 2), ("B", "Q", HEADS, places)]
    check(
        lambda value, *others: deformable_attention(value, SIZES, POINTS, *others, sampling),
        oracle(SIZES, POINTS),
        *arrays,
        dynamic=dynamic,
    )


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("sizes", [[(0, 5), (3, 4), (2, 0)], [(0, 0)]])
def test_maps_without_pixels_give_zeros(sampling, sizes):
    points = [2] * len(sizes)
    arrays = tensors(sizes, points)
    if not arrays[0].size:  # TensorRT has no empty input
        network = trtnet.Network("rtx")
        at, weights = (network.input(f"x{i}", x.shape) for i, x in enumerate(arrays[1:]))
        value = network.input("x", (2, 1, HEADS, WIDTH))[:, :0]
        network.output("y", deformable_attention(value, sizes, points, at, weights, sampling))
        named = {"x0": arrays[1], "x1": arrays[2], "x": np.ones((2, 1, HEADS, WIDTH), np.float32)}
        found = trtnet.reference.run(network.definition, named)["y"]
        assert not found.any()
        assert found.shape == (2, QUERIES, HEADS * WIDTH)
        return
    wanted = oracle(sizes, points)(*(torch.from_numpy(x) for x in arrays)).numpy()
    np.testing.assert_allclose(run(sizes, points, arrays, sampling), wanted, atol=1e-6)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_nan_stays_where_it_is_read(sampling):
    """A value that is NaN reaches those who read it; a place that is NaN gives NaN."""
    value, locations, weights = tensors(SIZES, POINTS, spread=0.0)
    value[0, 3, 1] = np.nan
    clean = run(SIZES, POINTS, [np.nan_to_num(value), locations, weights], sampling)
    found = run(SIZES, POINTS, [value, locations, weights], sampling)
    wanted = oracle(SIZES, POINTS)(*map(torch.from_numpy, (value, locations, weights))).numpy()
    assert np.isnan(wanted).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(found, np.where(np.isnan(wanted), np.nan, clean), rtol=1e-6)
    locations[1, 2, 0, 4] = np.nan
    hit = run(SIZES, POINTS, [np.nan_to_num(value), locations, weights], sampling)
    is_hit = np.zeros_like(hit, bool)
    is_hit[1, 2, :WIDTH] = True
    assert np.isnan(hit[is_hit]).all()
    np.testing.assert_array_equal(hit[~is_hit], clean[~is_hit])


def test_places_and_sums_are_float32_beside_half_precision():
    arrays = tensors(SIZES, POINTS)
    half = arrays[0].astype(np.float16).astype(np.float32)
    wanted = oracle(SIZES, POINTS)(*map(torch.from_numpy, (half, *arrays[1:]))).numpy()
    for sampling in SAMPLINGS:
        network = trtnet.Network("rtx")
        inputs = [network.input(f"x{i}", array.shape) for i, array in enumerate(arrays)]
        found = deformable_attention(inputs[0].half(), SIZES, POINTS, *inputs[1:], sampling)
        assert str(found.dtype) == "trtnet.float16"
        network.output("y", found.float())
        named = {f"x{i}": array for i, array in enumerate(arrays)}
        got = trtnet.reference.run(network.definition, named)["y"]
        np.testing.assert_array_equal(got, got.astype(np.float16))
        assert far(got, wanted) <= 5e-4  # the result's rounding alone


def test_what_does_not_fit_is_refused():
    network = trtnet.Network("rtx")
    arrays = tensors(SIZES, POINTS)
    value, at, weights = (network.input(f"x{i}", x.shape) for i, x in enumerate(arrays))
    with pytest.raises(ShapeError, match="do not fit together"):
        deformable_attention(value, SIZES, [3, 1], at, weights)
    with pytest.raises(ShapeError, match="do not fit together"):
        deformable_attention(value, SIZES[:2], POINTS[:2], at, weights)
    with pytest.raises(ShapeError, match="maps of fixed sizes"):
        deformable_attention(value, [value.shape, (1, "W"), (4, 4)], POINTS, at, weights)
    with pytest.raises(UsageError, match="layer or gathers"):
        deformable_attention(value, SIZES, POINTS, at, weights, "plugin")
