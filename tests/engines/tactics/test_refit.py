"""What a builder made of old weights gets those that it would make of new ones, in its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tactics.networks import filled
from tactics.stand_ins import Clock

from trtnet import nn
from trtnet.engines.torch import refitting
from trtnet.engines.torch.alike import are_alike, holding
from trtnet.engines.torch.compiled import module_of
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.elements import rewrite
from trtnet.engines.torch.tactics.network_builder import NetworkBuilder
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.zoo.shufflenet import InvertedResidual

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


def _shuffled() -> Any:
    return nn.Sequential(InvertedResidual(8, 12, 2), InvertedResidual(12, 12, 1))


CASES = {
    "blocks": (Blocks, (2, 3, 8, 8)),
    "mlp": (_mlp, (3, 6, 16)),
    "shuffled": (_shuffled, (2, 8, 9, 7)),
}


@pytest.mark.parametrize("name", CASES)
def test_packed_and_folded_again(name: str, as_on_a_gpu: Any, stand_ins: Any) -> None:
    make, shape = CASES[name]
    old, new = (as_on_a_gpu(filled(make(), seed), shape) for seed in (0, 1))
    builder = Builder(3, TimingCache({"gpu": "A"}), CPU, Clock())
    running = NetworkBuilder(old, [torch.float32], builder)
    shapes = (tuple(shape),)
    built, other = _built(running, shapes), _built(running.for_module(new), shapes)
    forward, fresh = built.forward, other.forward
    x = torch.randn(shape)
    before, want = forward(x), fresh(x)
    pairs = []
    for mine, theirs in ((old, new), (built, other)):
        assert _alike(mine, theirs)
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
    again = _built(running, shapes).forward  # of the module that runs, whose values have changed
    assert all(torch.equal(again(x)[key], want[key]) for key in want)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_steps_of_codes_are_no_tensors(precision: str, as_on_a_gpu: Any, stand_ins: Any) -> None:
    """Tactics are given the steps of activations as numbers, which no exchange of tensors reaches:
    an engine with another calibration is another module."""
    shape = (2, 6, 16)
    old, same, new = (
        as_on_a_gpu(filled(_mlp(), seed), shape, precision=precision) for seed in (0, 0, 1)
    )
    builder = Builder(3, TimingCache({"gpu": "A"}), CPU, Clock())
    running = NetworkBuilder(old, [torch.float32], builder)
    built = _built(running, (shape,))
    other = _built(running.for_module(new), (shape,))
    assert _alike(old, new)
    assert built.code == other.code
    assert _alike(built, _built(running.for_module(same), (shape,)))
    assert not _alike(built, other)


def test_what_functions_hold() -> None:
    def module(target: Any) -> Any:
        graph = torch.fx.Graph()
        graph.output(graph.call_function(target, (graph.placeholder("x"),)))
        return torch.fx.GraphModule({}, graph)

    def plus(number: float, is_said: bool) -> Any:
        def call(x: Any) -> Any:
            return x + number

        return holding(call, number) if is_said else call

    assert _alike(module(torch.relu), module(torch.relu))
    assert not _alike(module(torch.relu), module(torch.tanh))
    assert _alike(module(plus(1, True)), module(plus(1, True)))
    assert not _alike(module(plus(1, True)), module(plus(2, True)))
    assert not _alike(module(plus(1, False)), module(plus(1, False)))  # nobody knows


def test_numbers_in_a_written_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number on the host is a part of the text of a kernel on a GPU."""
    monkeypatch.setattr(rewrite, "_that_compile", list)  # there is no GPU

    def text(number: float) -> Any:
        graph = torch.fx.Graph()
        x, held = graph.placeholder("x"), graph.get_attr("number")
        total = graph.call_function(torch.add, (x, held))
        graph.output(graph.call_function(torch.relu, (total,)))
        module = torch.fx.GraphModule({"number": torch.tensor(number)}, graph)
        x.meta["value"], held.meta["value"] = torch.empty(4, device="meta"), torch.empty(())
        for node in module.graph.nodes:
            if node.op == "call_function":
                node.meta["value"] = torch.empty(4, device="meta")
        assert rewrite.write_kernels(module, torch.device("cuda:0")) == 1
        return module

    assert _alike(text(1.0), text(1.0))
    assert not _alike(text(1.0), text(2.0))


def _built(builder: NetworkBuilder, shapes: Any) -> Any:
    made = builder.build(shapes)
    assert made is not None
    module = module_of(made.forward)
    assert module is not None
    return module


def _alike(old: Any, new: Any) -> bool:
    parts = zip(old.modules(), new.modules(), strict=True)
    return all(are_alike(mine, theirs) for mine, theirs in parts)


class _Compiled:
    device, output_shapes = CPU, None
