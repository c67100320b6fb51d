"""How much GPU memory it takes to load and to build a network, counted on a stand-in for one."""

from __future__ import annotations

import contextlib
import functools
import gc

import pytest
import torch
import torch._dynamo  # before what it asks for is replaced
from doubles import cuda_tensors
from doubles.cuda_tensors import GPU, Device, OnGpu, counted, values
from tactics import codes, stand_ins
from tactics.networks import filled, network
from tactics.stand_ins import Clock
from torch.utils._pytree import tree_map

from trtnet import graph, nn, reference
from trtnet.engines.torch import engine, kernels, passes
from trtnet.engines.torch.tactics import builder, calls, trials
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.quantized import calls as calls_of_codes
from trtnet.engines.torch.tactics.timing_cache import TimingCache

LEVEL = 3


def kernel(function):
    """`function` of the host's tensors as a kernel, which takes no memory but its result's."""

    @functools.wraps(function)
    def call(*args, **options):
        return OnGpu(function(*tree_map(values, args), **tree_map(values, options)))

    return call


@pytest.fixture
def memory(monkeypatch):
    """Enters a device, and counts its memory."""

    def enter():
        for owner, functions in ((calls, stand_ins.KERNELS), (calls_of_codes, codes.KERNELS)):
            for function in functions:
                monkeypatch.setattr(owner, function.__name__, kernel(function))

        def packed(x, channels, dtype):
            padded = torch.nn.functional.pad(x.to(dtype), (0, 0, 0, 0, 0, channels - x.shape[1]))
            return padded.contiguous(memory_format=torch.channels_last)

        monkeypatch.setattr(kernels, "pack_channels_last", kernel(packed))
        monkeypatch.setattr(trials, "_COMPARED", 1 << 8)
        monkeypatch.setattr(trials, "_PART", 1 << 12)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
        cuda_tensors.allow(monkeypatch)
        stack.enter_context(torch.no_grad())
        stack.enter_context(Device())
        return stack.enter_context(counted())

    with contextlib.ExitStack() as stack:
        yield enter


class Image(nn.Module):
    """Blocks like those of networks for images: the first tensors are by far the largest."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.widen, self.deep = nn.Conv2d(16, 64, 1), nn.Conv2d(64, 64, 3, 2, 1, groups=64)
        self.narrow, self.more = nn.Conv2d(64, 32, 1), nn.Conv2d(32, 32, 3, padding=1)
        self.line = nn.Linear(32, 10)

    def forward(self, x):
        silu = nn.functional.silu
        x = silu(self.deep(silu(self.widen(silu(self.stem(x))))))
        x = self.narrow(x)
        return self.line(nn.functional.relu(x + self.more(x)).mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers, whose weights take more memory than values."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *[nn.Sequential(nn.Linear(96, 192), nn.GELU(), nn.Linear(192, 96)) for _ in range(4)]
        )
        self.norm = nn.LayerNorm(96)

    def forward(self, x):
        return self.norm(x + self.layers(x))


CASES = {  # and what a build may take, of what the activations of the network as it is take
    "image": (Image, (8, 3, 32, 32), "fp16", 0.8),
    "tokens": (Tokens, (2, 12, 96), "fp16", 1.1),
    "image in int8": (Image, (8, 3, 32, 32), "int8", 0.25),  # which is emulated
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_build_takes(name, memory):
    """Loading takes one weight beside all of them, and its copy in another layout. A build takes no
    more than the weights, what an execution takes, and weights that are packed for its kernels."""
    kind, shape, precision, limit = CASES[name]
    read = graph.read(network(filled(kind()), [("N", *shape[1:])], precision))
    ledger = memory()
    module = engine._compile(read, GPU)
    weights, largest = ledger.held, max(b.nbytes for b in module.buffers())
    assert ledger.peak <= weights + 2.1 * largest
    x, clock = OnGpu(torch.randn(shape)), Clock()
    ledger.restart()
    module.forward(x)
    as_it_is = ledger.peak - ledger.held
    gc.collect()  # else what is left of the execution may be freed later
    ledger.restart()
    before = ledger.held
    made = Builder(LEVEL, TimingCache({}), GPU, clock).build(module, [(shape, torch.float32)])
    taken = ledger.peak - before
    assert len(clock.tactics) > LEVEL
    ledger.restart()
    made.forward(x)
    with_tactics = ledger.peak - ledger.held
    assert taken <= limit * as_it_is
    assert precision == "fp16" or taken <= with_tactics
    del made
    gc.collect()
    assert ledger.held == before


def test_cublas_takes_its_workspace_before_the_trials(memory, monkeypatch):
    """It stays, and would be a part of a large block that a trial has left."""
    kind, shape, precision, _ = CASES["tokens"]
    read = graph.read(network(filled(kind()), [("N", *shape[1:])], precision))
    memory()
    module, clock, cache = engine._compile(read, GPU), Clock(), TimingCache({})
    taken = []
    monkeypatch.setattr(
        builder, "take_workspace", lambda device: taken.append((device, len(clock.tactics)))
    )
    for _ in range(2):  # the second knows all choices
        Builder(LEVEL, cache, GPU, clock).build(module, [(shape, torch.float32)])
    assert taken == [(GPU, 0)]
    assert clock.tactics


class Shared(nn.Module):
    """Two linear layers of one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(96, 96), nn.Linear(96, 96)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(nn.functional.relu(self.one(x)))


@pytest.mark.parametrize(("at_once", "limit"), [(1 << 12, 1.0), (1 << 20, 2.0)])
def test_a_large_weight_is_transposed_beside_no_copy_of_it(at_once, limit, memory, monkeypatch):
    layer = filled(nn.Linear(300, 257))
    read, x = graph.read(network(layer, [("N", 300)], "fp16")), torch.randn(3, 300)
    wanted = reference.compile(read)(x)
    ledger = memory()
    monkeypatch.setattr(passes, "_AT_ONCE", at_once)
    module = engine._compile(read, GPU)
    weight = max(b.nbytes for b in module.buffers())
    assert weight == 2 * 300 * 257
    assert ledger.peak <= limit * weight + 2 * at_once * (limit < 2) + 2048
    for key, found in module.forward(OnGpu(x)).items():
        torch.testing.assert_close(found.inner.float(), wanted[key].float(), rtol=2e-3, atol=2e-3)


def test_a_large_weight_of_two_layers_is_transposed(memory, monkeypatch):
    read, x = graph.read(network(filled(Shared()), [("N", 96)], "fp16")), torch.randn(3, 96)
    wanted = reference.compile(read)(x)
    memory()
    monkeypatch.setattr(passes, "_AT_ONCE", 1 << 10)
    for key, found in engine._compile(read, GPU).forward(OnGpu(x)).items():
        torch.testing.assert_close(found.inner.float(), wanted[key].float(), rtol=4e-3, atol=4e-3)
