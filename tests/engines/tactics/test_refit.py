"""What a builder made of old weights gets those that it would make of new ones, in its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tactics.networks import filled
from tactics.stand_ins import Clock

from trtnet import nn
from trtnet.engines.torch import refitting
from trtnet.engines.torch.compiled import module_of
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.network_builder import NetworkBuilder
from trtnet.engines.torch.tactics.timing_cache import TimingCache

CPU = torch.device("cpu")


class Blocks(nn.Module):
    """A convolution, a depthwise one, a pointwise one, and a linear layer on what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.c, self.fc = nn.Conv2d(16, 32, 1), nn.Linear(32, 16)

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu(self.bn(self.a(x)))
        x = nn.functional.silu(self.c(nn.functional.relu(self.b(x))))
        return nn.functional.gelu(self.fc(x.mean((2, 3))))


def _mlp() -> Any:
    return nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 16))


CASES = {"blocks": (Blocks, (2, 3, 8, 8)), "mlp": (_mlp, (3, 6, 16))}


@pytest.mark.parametrize("name", CASES)
def test_packed_and_folded_again(name: str, as_on_a_gpu: Any, stand_ins: Any) -> None:
    make, shape = CASES[name]
    old, new = (as_on_a_gpu(filled(make(), seed), shape) for seed in (0, 1))
    builder = Builder(3, TimingCache({"gpu": "A"}), CPU, Clock())
    running = NetworkBuilder(old, [torch.float32], builder)
    shapes = (tuple(shape),)
    mine, theirs = running.build(shapes), running.for_module(new).build(shapes)
    assert mine is not None
    assert theirs is not None
    forward, fresh = mine.forward, theirs.forward
    built, other = module_of(forward), module_of(fresh)
    assert built is not None
    assert other is not None
    x = torch.randn(shape)
    before, want = forward(x), fresh(x)
    pairs = []
    for mine, theirs in ((old, new), (built, other)):
        assert refitting._code(mine) == refitting._code(theirs)
        given = dict(theirs.named_buffers())
        for key, held in mine.named_buffers():
            assert refitting._layout(held) == refitting._layout(given[key])
            pairs.append((held, given[key]))
    whole = refitting._storages(pairs)
    assert whole is not None
    addresses = {key: held.data_ptr() for key, held in built.named_buffers()}
    refitting.exchange(whole, _Compiled(), _Compiled())
    for key in want:
        assert torch.equal(forward(x)[key], want[key])
        assert not torch.equal(before[key], want[key])
    assert {key: held.data_ptr() for key, held in built.named_buffers()} == addresses
    again = running.build(shapes)  # of the module that runs, whose values have changed
    assert again is not None
    assert all(torch.equal(again.forward(x)[key], want[key]) for key in want)


class _Compiled:
    device, output_shapes = CPU, None
