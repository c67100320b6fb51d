"""Trials: what is compared, what is measured, and what of it stays in memory."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from tactics.networks import filled, regions
from tactics.stand_ins import Clock

from trtnet import nn
from trtnet.engines.torch.tactics import calls, choices, trials
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.movement import take_rows
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.zoo.shufflenet import channel_shuffle

CPU = torch.device("cpu")


@pytest.mark.parametrize("compared", [1, 7, 60, 1 << 22])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (3, 5), (1, 2, 30), (30, 1, 2)])
def test_norms_of_parts_are_those_of_the_whole(shape, compared, monkeypatch):
    monkeypatch.setattr(trials, "_COMPARED", compared)
    a, b = (torch.randn(shape, dtype=torch.float64).half() for _ in range(2))
    before = a.clone(), b.clone()
    assert trials._norm(a) == pytest.approx(float(a.double().norm()), rel=1e-5)
    difference = float((a.double() - b.double()).norm())
    for one in (b, b.clone().t() if b.dim() == 2 and shape[0] == shape[1] else b):
        assert trials._norm(a, one) == pytest.approx(difference, rel=1e-5)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_norms_of_float32_values_leave_them_as_they_are():
    a, b = torch.randn(4, 5), torch.randn(5, 4).t()
    before = a.clone(), b.clone()
    assert trials._norm(a, b) == pytest.approx(float((a - b).norm()), rel=1e-6)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_the_limit_is_the_best_so_far(as_on_a_gpu, stand_ins):
    module = as_on_a_gpu(filled(nn.Sequential(nn.Linear(64, 32), nn.GELU())), ("N", 64))
    (region,) = regions(module, (48, 64), count=4)
    said, times = [], iter([100.0, 40.0, 70.0, 30.0, math.inf, 20.0])

    def time(call, limit):
        said.append(limit)
        return next(times)

    found = trials.Trial(region, region.tactics, CPU).times(time)
    assert said == [math.inf, 100.0, 40.0, 40.0, 30.0, 30.0]
    assert list(found.values()) == [100.0, 40.0, 70.0, 30.0, math.inf, 20.0]


@pytest.mark.parametrize("is_large", [False, True])
def test_a_large_graph_is_freed_before_the_next_tactic_runs(
    is_large, as_on_a_gpu, stand_ins, monkeypatch
):
    """It has a pool of its own, in which nothing else can lie."""
    module = as_on_a_gpu(filled(nn.Sequential(nn.Linear(64, 32), nn.GELU())), ("N", 64))
    (region,) = regions(module, (48, 64), count=3)
    freed, timed = [], []
    monkeypatch.setattr(trials, "_PART", 48 * 32 * 2 - is_large)  # bytes of the result
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(len(timed)))
    trials.Trial(region, region.tactics, CPU).times(lambda call, limit: timed.append(1) or 1.0)
    assert len(timed) == len(region.tactics) + 1
    assert freed == [*range(1, len(timed))] * is_large


def nodes_of(region):
    return trials.Trial(region, region.tactics, CPU)._nodes


@pytest.mark.parametrize(("part", "sizes"), [(1 << 25, [6]), (4000, [3, 3]), (1, [1] * 6)])
def test_large_results_are_computed_in_parts(part, sizes, as_on_a_gpu, stand_ins, monkeypatch):
    module = as_on_a_gpu(filled(nn.Sequential(nn.Conv2d(8, 16, 1), nn.SiLU())), ("N", 8, 5, 7))
    (region,) = regions(module, (6, 8, 5, 7), count=1)
    monkeypatch.setattr(trials, "_PART", part)
    nodes = nodes_of(region)
    whole, parts = nodes.call(), list(nodes.parts())
    assert [len(right) for _, right in parts] == sizes
    for rows, right in parts:
        torch.testing.assert_close(right, whole[rows], rtol=1e-3, atol=1e-3)


def test_what_does_not_work_row_by_row_is_one_part(as_on_a_gpu, stand_ins, monkeypatch):
    """A shape that is stated, and an operand without the axis of the batch."""
    monkeypatch.setattr(trials, "_PART", 1)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(8, 4)

        def forward(self, x, y):
            return nn.functional.gelu(self.line(x)).reshape((4, 6)), self.line(x) + y

    shapes = (6, 8), (1, 4)
    module = as_on_a_gpu(filled(Flat()), *shapes)
    for region in regions(module, *shapes, count=1):
        nodes = nodes_of(region)
        if nodes.shape == (4, 6) or len(nodes._operands) == 2:
            ((rows, right),) = nodes.parts()
            assert rows == slice(None)
            assert torch.equal(right, nodes.call())


def test_rows_that_are_taken_from_all_images_are_one_part(as_on_a_gpu, stand_ins, monkeypatch):
    """The places are those of rows of the whole: in a part they would be outside."""
    monkeypatch.setattr(trials, "_PART", 1)

    class Rolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(8, 8)

        def forward(self, x):
            moved = self.line(x)
            return torch.cat([moved[:, 1:], moved[:, :1]], 1)

    module = as_on_a_gpu(filled(Rolled()), ("N", 4, 4, 8))
    (region,) = regions(module, (6, 4, 4, 8), count=1)
    assert region.nodes[-1].target is take_rows
    nodes = nodes_of(region)
    ((rows, right),) = nodes.parts()
    assert rows == slice(None)
    assert torch.equal(right, nodes.call())


@pytest.mark.parametrize("row", range(6))
def test_a_part_that_is_wrong_is_found(row, as_on_a_gpu, stand_ins, monkeypatch):
    module = as_on_a_gpu(filled(nn.Sequential(nn.Linear(64, 32), nn.GELU())), ("N", 64))
    (region,) = regions(module, (6, 64), count=1)
    monkeypatch.setattr(trials, "_PART", 1)
    nodes = nodes_of(region)
    assert trials._agrees(nodes.call, nodes)
    for wrong in (2.0, float("nan"), float("inf"), -1.0):
        factor = torch.ones(6, 1).index_fill(0, torch.tensor(row), wrong)
        assert not trials._agrees(lambda f=factor: (nodes.call() * f).half(), nodes)
    assert not trials._agrees(lambda: torch.cat([nodes.call()] * 2), nodes)
    assert not trials._agrees(lambda: nodes.call().float(), nodes)


def test_what_emulates_is_compared_but_not_timed(as_on_a_gpu, stand_ins):
    model = filled(nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)))
    module = as_on_a_gpu(model, ("N", 8, 7, 7), precision="int8")
    found, clock = regions(module, (2, 8, 7, 7), count=2), Clock()
    assert len(found) == 3  # one makes the first codes
    for region in found:
        times = trials.Trial(region, region.tactics, CPU).times(clock)
        assert times.pop(choices.KEEP) == math.inf
        assert {*times.values()} == {1.0}
    assert clock.kept == 0
    made = Builder(1, TimingCache({}), CPU, clock).build(module, [((2, 8, 7, 7), torch.float32)])
    assert made.meta["saved_us"] == math.inf


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.Hardswish()], ids=str)
def test_nodes_that_overwrite_give_the_same(activation, as_on_a_gpu, stand_ins):
    module = as_on_a_gpu(filled(nn.Sequential(nn.Linear(8, 8), activation)), (5, 8))
    (region,) = regions(module, (5, 8), count=1)
    nodes, (plain, _) = nodes_of(region), choices.extract(region)
    operands = [x.clone() for x in nodes._operands]
    assert torch.equal(nodes.call(), plain(*operands))
    for given, held in zip(nodes._operands, operands, strict=True):
        assert torch.equal(given, held)
    assert ("mul_" in nodes._module.code) == isinstance(activation, nn.SiLU)


@pytest.fixture
def machine(monkeypatch):
    """A GPU on which an execution alone takes `alone` microseconds, and each in a graph the next of
    `replays`."""

    class Machine:
        alone, replays, asked, captured = 100.0, (), 0, 0

        def measure(self, call, stream):
            if call == "replay":
                self.asked += 1
                return self.replays[self.asked - 1] * self.captured
            call()
            return self.alone

    made = Machine()

    class Graph:
        replay = "replay"

        def capture_begin(self, *_, **__):
            made.captured = -made.calls

        def capture_end(self):
            made.captured += made.calls

    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(trials, "_microseconds", made.measure)
    made.calls = 0
    return made


def measured(machine, limit):
    def call():
        machine.calls += 1

    return trials.time_captured(call, limit)


@pytest.mark.parametrize(
    ("alone", "limit", "replays", "time", "rounds", "captured"),
    [
        (100.0, math.inf, (9.0, 8.0, 7.0, 8.0), 7.0, 4, 10),
        (100.0, 6.0, (9.0, 8.0, 7.0, 5.0), 5.0, 4, 10),
        (100.0, 5.0, (90.0, 7.6, 1.0, 1.0), 7.6, 2, 10),  # the first round may be slow
        (500.0, 400.0, (450.0, 410.0, 405.0, 420.0), 405.0, 4, 4),
        (5000.0, 4000.0, (4500.0, 4600.0, 4700.0, 4400.0), 4400.0, 4, 2),
        (5000.0, 3000.0, (), 5000.0, 0, 0),  # no graph is captured
        (310.0, 7.0, (250.0, 260.0), 250.0, 2, 6),  # most of it may be the host's time
        (0.0, math.inf, (0.5, 0.5, 0.5, 0.5), 0.5, 4, 10),
    ],
)
def test_what_is_clearly_slower_is_not_measured_exactly(
    alone, limit, replays, time, rounds, captured, machine
):
    machine.alone, machine.replays = alone, replays
    assert measured(machine, limit) == pytest.approx(time)
    assert (machine.asked, machine.captured) == (rounds, captured)


def test_what_fails_takes_for_ever(machine):
    def fail():
        raise RuntimeError("no")

    assert trials.time_captured(fail, math.inf) == math.inf


class Net(nn.Module):
    """Regions of several kinds: convolutions, a depthwise one, and linear layers."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8)
        self.point, self.line = nn.Conv2d(8, 16, 1), nn.Linear(16, 4)

    def forward(self, x):
        x = nn.functional.silu(self.deep(nn.functional.silu(self.stem(x))))
        return self.line(nn.functional.silu(self.point(x)).mean((2, 3)))


def test_random_numbers_of_the_process_are_left_as_they_are(as_on_a_gpu, stand_ins):
    """Or what a program draws after ``torch.manual_seed`` would depend on what was timed."""
    module = as_on_a_gpu(filled(Net()), (2, 3, 9, 9))
    (region, *_) = regions(module, (2, 3, 9, 9), count=1)
    before = torch.get_rng_state()
    trial = trials.Trial(region, region.tactics, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    again = trials.Trial(region, region.tactics, CPU)
    assert torch.equal(trial._nodes.call(), again._nodes.call())


def addresses(module):
    return {b.untyped_storage().data_ptr(): b.untyped_storage().nbytes() for b in module.buffers()}


def test_operands_of_one_trial_live_at_a_time(as_on_a_gpu, stand_ins, monkeypatch):
    """And nothing but weights is left of them, without Python's collector of cycles."""
    module = as_on_a_gpu(filled(Net()), (2, 3, 9, 9))
    made, most = [], []

    def laid_out(*arguments, make=trials._laid_out_as):
        made.append(weakref.ref(value := make(*arguments)))
        return value

    class Watch(Clock):
        def __call__(self, call, limit):
            most.append([ref for ref in made if ref() is not None])
            return super().__call__(call, limit)

    monkeypatch.setattr(trials, "_laid_out_as", laid_out)
    gc.collect()
    gc.disable()
    try:
        Builder(3, TimingCache({}), CPU, Watch()).build(module, [((2, 3, 9, 9), torch.float32)])
        assert not [ref for ref in made if ref() is not None]
    finally:
        gc.enable()
    assert len(made) == 4
    assert max(map(len, most)) <= 2  # an image, and what is added or multiplied


def test_weights_exist_once(as_on_a_gpu, stand_ins):
    """The built module has the weights of the given one; only kernels of depthwise convolutions are
    there in another order too."""
    module = as_on_a_gpu(filled(Net()), (2, 3, 9, 9))
    before = addresses(module)
    made = Builder(3, TimingCache({}), CPU, Clock()).build(module, [((2, 3, 9, 9), torch.float32)])
    own = {key: size for key, size in addresses(made).items() if key not in before}
    depthwise = 8 * 3 * 3 * 2
    assert sum(own.values()) == depthwise
    assert addresses(module) == before


def test_what_is_dropped_is_freed(as_on_a_gpu, stand_ins):
    """A built module that is not taken leaves nothing but the given one's weights."""
    module = as_on_a_gpu(filled(Net()), (2, 3, 9, 9))
    kept = {b.untyped_storage().data_ptr() for b in module.buffers()}
    made = Builder(3, TimingCache({}), CPU, Clock()).build(module, [((2, 3, 9, 9), torch.float32)])
    refs = [weakref.ref(b) for b in made.buffers() if b.untyped_storage().data_ptr() not in kept]
    assert refs
    del made
    gc.collect()
    assert not [ref for ref in refs if ref() is not None]


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 1)

    def forward(self, x):
        return channel_shuffle(self.conv(x), 2)


def _nothing(*operands):
    return operands[8]


def _elsewhere(*operands, **options):
    into, places = operands[8:]
    return calls.product(*operands[:8], into, places + torch.tensor([[0], [1], [0]]), **options)


def _twice(*operands, **options):
    into, places = operands[8:]
    into.add_(1)
    return calls.product(*operands[:8], into, places, **options)


@pytest.mark.parametrize("wrong", [_nothing, _elsewhere, _twice], ids=lambda f: f.__name__)
def test_what_writes_into_an_operand_is_compared(wrong, as_on_a_gpu, stand_ins):
    """Neither what the nodes wrote before, nor what another tactic did, is taken for its own."""
    module = as_on_a_gpu(filled(Shuffled()), ("N", 8, 5, 7))
    (region,) = regions(module, (6, 8, 5, 7), count=1)
    assert region.into is region.operands[8]
    right = region.tactics[0]
    options = {} if wrong is _nothing else right.options
    tactics = (right, choices.Tactic("wrong", wrong, options), right)
    found = trials.Trial(region, tactics, CPU).times(Clock())
    assert found == {choices.KEEP: 100.0, right.name: 1.0, "wrong": math.inf}
