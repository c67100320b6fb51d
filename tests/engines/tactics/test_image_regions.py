"""Regions of images without a product: factors of channels, means, unit vectors."""

from __future__ import annotations

import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, targets
from tactics.stand_ins import Clock

from trtnet import nn
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.nn import functional as F


class Model(nn.Module):
    """Two convolutions, a normalisation of channels, and what `function` makes of them."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.function(self, x)


def check(function, as_on_a_gpu, size=(2, 6, 5, 4)):
    """What the built module calls; it gives what the module for any shapes gives."""
    module = as_on_a_gpu(filled(Model(function)), ("N", *size[1:]))
    builder = Builder(1, TimingCache({}), torch.device("cpu"), Clock())
    made = builder.build(module, [(size, torch.float32)])
    made.graph.lint()
    inputs = inputs_of([size])
    for found, wanted in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        error = (found.double() - wanted.double()).norm()
        assert error <= 3e-3 * wanted.double().norm()
    return targets(made)


@pytest.mark.parametrize("activation", [F.relu, F.silu, F.gelu], ids=lambda f: f.__name__)
def test_a_normalisation_that_follows_on_nothing(activation, as_on_a_gpu, stand_ins):
    found = check(lambda m, x: m.one(activation(m.norm(F.max_pool2d(m.two(x), 2)))), as_on_a_gpu)
    assert "scaled_image" in found
    assert {"scale_shift", "gelu", "sigmoid", "relu"}.isdisjoint(found)


def test_a_normalisation_before_a_sum(as_on_a_gpu, stand_ins):
    def function(m, x):
        pooled = F.max_pool2d(m.two(x), 2)
        return F.relu(m.norm(pooled) + pooled)

    check(function, as_on_a_gpu)


SUMS = {
    "pooling": lambda m, x: m.two(F.adaptive_avg_pool2d(F.silu(m.one(x)), 1)),
    "no axes left": lambda m, x: m.one(x).mean((2, 3)) * 2,
    "pixels first": lambda m, x: m.one(x).permute(0, 2, 3, 1).mean((1, 2)) * 2,
    "tokens": lambda m, x: m.one(x).flatten(2).permute(0, 2, 1).mean(1) * 2,
    "sum": lambda m, x: m.one(x).sum((-1, -2), keepdim=True) * 2,
    "norm": lambda m, x: m.one(x).permute(0, 2, 3, 1).norm(dim=(1, 2), keepdim=True) * 2,
}


@pytest.mark.parametrize("name", SUMS)
def test_sums(name, as_on_a_gpu, stand_ins):
    found = check(SUMS[name], as_on_a_gpu)
    assert "sums_of_images" in found
    assert {"mean", "sum", "sqrt"}.isdisjoint(found)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.one(x).mean((1, 2), keepdim=True) * 2,
        lambda m, x: x.mean((2, 3), keepdim=True) * 2,
    ],
    ids=["other axes", "float32"],
)
def test_other_means(function, as_on_a_gpu, stand_ins):
    assert "sums_of_images" not in check(function, as_on_a_gpu)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.avg_pool2d(x, 3, 1, 1),
        lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False),
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ],
    ids=["average", "rounded up", "largest"],
)
def test_windows(pool, as_on_a_gpu, stand_ins):
    found = check(lambda m, x: m.one(F.silu(pool(F.silu(m.two(x))))), as_on_a_gpu)
    assert "pooled_image" in found
    assert {"average_pool", "max_pool", "avg_pool2d", "max_pool2d"}.isdisjoint(found)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.avg_pool2d(x, 3, 1, 1) * 2,
        lambda m, x: F.avg_pool2d(F.silu(m.one(x)).mean(1, keepdim=True).expand(-1, 6, -1, -1), 2),
        lambda m, x: F.avg_pool3d(F.silu(m.one(x)).float().unsqueeze(2), (1, 2, 2)),
    ],
    ids=["an input", "of another layout", "of volumes"],
)
def test_other_windows(function, as_on_a_gpu, stand_ins):
    assert "pooled_image" not in check(function, as_on_a_gpu)


@pytest.mark.parametrize("size", [(0, 6, 5, 4), (1, 6, 1, 1)], ids=str)
def test_few_pixels(size, as_on_a_gpu, stand_ins):
    check(lambda m, x: F.adaptive_avg_pool2d(F.silu(m.one(x)), 1), as_on_a_gpu, size)


@pytest.mark.parametrize("rank", [4, 5])
def test_unit_vectors(rank, as_on_a_gpu, stand_ins):
    def function(m, x):
        y = m.one(x) if rank == 4 else m.one(x).unsqueeze(1)
        unit = F.normalize(y, dim=-1)
        return unit @ unit.transpose(-2, -1)

    found = check(function, as_on_a_gpu)
    assert "units" in found


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.normalize(m.one(x), dim=1) * 2,
        lambda m, x: F.normalize(m.one(x), p=1.0, dim=-1) * 2,
        lambda m, x: (lambda y: F.normalize(y, dim=-1) * y)(m.one(x)),
    ],
    ids=["another axis", "another norm", "used elsewhere"],
)
def test_other_vectors(function, as_on_a_gpu, stand_ins):
    check(function, as_on_a_gpu)
