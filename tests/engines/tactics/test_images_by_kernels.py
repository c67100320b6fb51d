"""Pooled and resized images of networks by kernels of ours, on a stand-in for a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as TF
from doubles.cuda_tensors import GPU, OnGpu
from tactics.device import entered

import trtnet
from trtnet import graph
from trtnet.engines.torch import engine, nearest, pooling
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.nn import functional as F

SHAPE = (2, 5, 9, 12)
POOLS = {
    "average": lambda f, x: f.avg_pool2d(x, 3, 1, 1),
    "without its padding": lambda f, x: f.avg_pool2d(x, (2, 3), (2, 1), (0, 1), False, False),
    "rounded up": lambda f, x: f.avg_pool2d(x, 2, 2, 0, True, False),
    "rounded up without its padding": lambda f, x: f.avg_pool2d(x, 3, 2, 1, True, False),
    "largest": lambda f, x: f.max_pool2d(x, 3, 2, 1),
    "largest, rounded up": lambda f, x: f.max_pool2d(x, 3, 2, 0, 1, True),
}
SIZES = {
    "twice": lambda f, x: f.interpolate(x, scale_factor=2.0, mode="nearest"),
    "to a size": lambda f, x: f.interpolate(x, (5, 17), mode="nearest"),
    "exact": lambda f, x: f.interpolate(x, (13, 24), mode="nearest-exact"),
}
OTHERS = {
    "of lines": lambda f, x: f.avg_pool1d(x[:, :, 0], 3, 2, 1),
    "of an image that is padded before": lambda f, x: f.avg_pool2d(x, 3, 2, 1, True),
    "of a large window": lambda f, x: f.avg_pool2d(f.interpolate(x, (9, 70)), (9, 40), 1),
}


@pytest.fixture
def kernels(monkeypatch):
    """A device that is entered, an image for it, and the calls of each kernel."""
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).half()
    with entered(monkeypatch) as device:
        called = {"pool_images": 0, "take_nearest": 0}
        for owner, name in ((pooling, "pool_images"), (nearest, "take_nearest")):
            monkeypatch.setattr(owner, name, counted(called, name, getattr(owner, name)))
        device.called, device.image = called, image
        yield device


def counted(called, name, function):
    def call(*arguments, **options):
        called[name] += 1
        return function(*arguments, **options)

    return call


def check(function, kernels, precision, error=2e-3):
    """A convolution of kernels of one pixel that keeps its image, and `function` of that, in the
    module of the engine and in the one that the builder makes; how often each kernel ran in one."""
    net = trtnet.Network("torch", precision=precision)
    image = net.input("image", ("N", *SHAPE[1:]))
    kernel = np.eye(5, dtype="float32").reshape(5, 5, 1, 1)
    net.output("y", function(F, F.conv2d(image, net.constant(kernel))))
    module = engine._compile(graph.read(net), GPU)
    x = kernels.image
    wanted = function(TF, x.double())
    builder = Builder(0, TimingCache({}), GPU, lambda call, limit: 1.0)
    for made in (module, builder.build(module, [(SHAPE, torch.float32)])):
        kernels.called.update(dict.fromkeys(kernels.called, 0))
        (found,) = made(OnGpu(x.float())).values()
        assert found.shape == wanted.shape
        torch.testing.assert_close(found.inner.double(), wanted, rtol=error, atol=error)
    return {name: count for name, count in kernels.called.items() if count}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name, kernels):
    assert check(POOLS[name], kernels, "fp16") == {"pool_images": 1}


@pytest.mark.parametrize("name", SIZES)
def test_nearest_pixels(name, kernels):
    assert check(SIZES[name], kernels, "fp16", 1e-3) == {"take_nearest": 1}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_left_to_pytorch(name, kernels):
    assert "pool_images" not in check(OTHERS[name], kernels, "fp16")


@pytest.mark.parametrize("name", ["average", "rounded up"])
def test_bfloat16(name, kernels):
    assert check(POOLS[name], kernels, "bf16", 2e-2) == {"pool_images": 1}
