"""What an execution takes of memory: what is noted of it, and which segments serve it."""

from __future__ import annotations

import itertools
import random

import pytest

torch = pytest.importorskip("torch")
memory = pytest.importorskip("trtnet.engines.torch.memory")

MIB = 1 << 20
CPU = torch.device("cpu")


def watched(function, *arguments, **options):
    """What is noted of one execution."""
    watch = memory.Watch(CPU, **options)
    with torch.inference_mode():
        watch.run(function)(*arguments)
    return watch


def sized(nbytes):
    return torch.empty(nbytes, dtype=torch.uint8)


def test_what_is_made_and_freed_is_noted_in_order():
    def forward(x):
        a = x + 1
        b = a * 2
        a = None
        c = torch.cat([b, b])
        b = None
        return {"y": c}

    watch = watched(forward, torch.ones(100))
    assert watch.events == [(1, 400), (2, 400), (-1, 0), (4, 800), (-2, 0), (-4, 0)]
    assert watch.peak == 1200


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(4, 25).t(),
        lambda x: x.add_(1),
        lambda x: torch.relu_(x)[3:],
        lambda x: x.expand(7, 100).permute(1, 0),
        lambda x: x.chunk(3)[1],
        lambda x: torch.add(x, 1, out=x),
    ],
)
def test_a_view_and_what_is_overwritten_take_nothing(function):
    assert watched(lambda x: {"y": function(x)}, torch.ones(100)).events == []


def test_results_of_one_operation_and_of_kernels_are_noted():
    def forward(x):
        low, places = x.sort()
        kernel = torch.empty(10, dtype=torch.half)  # as a launch writes to
        return {"low": low, "places": places, "kernel": kernel[2:]}

    watch = watched(forward, torch.ones(10))
    assert [nbytes for number, nbytes in watch.events if number > 0] == [40, 80, 20]
    assert watch.peak == 140


def test_only_the_device_counts():
    watch = memory.Watch(torch.device("meta"))
    with watch:
        held = torch.ones(3), torch.ones(5, device="meta")
    assert watch.events == [(1, 20)]
    del held


def test_a_value_is_freed_behind_its_last_use():
    """Of a chain of layers two values live at a time, however long it is."""
    fx = torch.fx
    layers = torch.nn.Sequential(*[torch.nn.Conv2d(4, 4, 3, padding=1) for _ in range(9)]).eval()
    module = fx.symbolic_trace(layers)
    value = 4 * 4 * 8 * 8
    watch = watched(lambda x: {"y": module.forward(x)}, torch.ones(1, 4, 8, 8))
    assert [n for number, n in watch.events if number > 0] == [value] * 9
    assert watch.peak == 2 * value


def test_more_than_the_limit_is_given_up():
    done = []

    def forward(x):
        a = x + 1
        done.append("a")
        b = a + 1
        done.append("b")
        return {"y": b}

    assert watched(forward, torch.ones(100), most=800).peak == 800
    done.clear()
    with pytest.raises(memory.TooMuchMemoryError, match="800 bytes at a time are more than 799"):
        watched(forward, torch.ones(100), most=799)
    assert done == ["a"]


@pytest.fixture
def emptied(monkeypatch):
    """How often unused memory was given back."""
    times = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: times.append(1))
    return times


def test_unused_memory_is_given_back_once_it_is_much(emptied, monkeypatch):
    monkeypatch.setattr(memory, "_UNUSED", 1000)

    def forward(x):
        for _ in range(20):
            x = x + 1  # 400 bytes are freed by each but the first
        return {"y": x}

    watched(forward, torch.ones(100))
    # Before each operation behind the third that freed something since.
    assert len(emptied) == 18 // 3


def test_nothing_is_given_back_for_little(emptied):
    watched(lambda x: {"y": x + 1 + 1 + 1}, torch.ones(100))
    assert emptied == []


@pytest.mark.parametrize(
    "product",
    [
        lambda x: torch.mm(x, x),
        lambda x: torch.nn.functional.linear(x, x),
        lambda x: torch.matmul(x[None], x),
        lambda x: torch.bmm(x[None], x[None]),
    ],
)
def test_unused_memory_is_given_back_before_the_first_product(product, emptied):
    """Else cuBLAS's workspace, which stays, would be a part of it."""

    def forward(x):
        x = x + 1
        assert emptied == []
        y = product(x)
        assert emptied == [1]
        return {"y": product(x) + y}

    watched(forward, torch.ones(4, 4))
    assert emptied == [1]


def test_a_workspace_is_taken_while_nothing_is_unused(emptied):
    watch = memory.Watch(CPU)
    with watch:
        memory.take_workspace(CPU)
    assert emptied[0] == 1
    assert watch.peak < 4096


def test_segments_are_taken_beside_each_other():
    watch = memory.Watch(CPU)
    with watch:
        memory.reserve((3000, 200, 200), CPU)
        memory.reserve((), CPU)
    assert [number > 0 for number, _ in watch.events] == [True] * 3 + [False] * 3
    assert watch.peak == 3400


class Pool:
    """PyTorch's allocator, after c10/cuda/CUDACachingAllocator.cpp: segments as lists of parts
    ``[begin, end, owner]``, of which the smallest that fits is taken."""

    def __init__(self, sizes=()):
        self.segments = [[[0, size, None]] for size in sizes]

    @property
    def taken(self):
        return sum(parts[-1][1] for parts in self.segments)

    def make(self, owner, nbytes):
        free = [(end - begin, i, k) for i, parts in enumerate(self.segments)
                for k, (begin, end, used) in enumerate(parts)
                if used is None and end - begin >= nbytes]  # fmt: skip
        if not free:
            size = 20 * MIB if nbytes < 10 * MIB else (nbytes + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
            self.segments.append([[0, size, None]])
            free = [(size, len(self.segments) - 1, 0)]
        _, i, k = min(free)
        begin, end, _ = self.segments[i][k]
        self.segments[i][k] = [begin, end, owner]
        if end - begin - nbytes > MIB:
            self.segments[i][k : k + 1] = [[begin, begin + nbytes, owner],
                                           [begin + nbytes, end, None]]  # fmt: skip

    def free(self, owner):
        for parts in self.segments:
            for part in parts:
                if part[2] == owner:
                    part[2] = None
            merged = parts[:1]
            for part in parts[1:]:
                if part[2] is None and merged[-1][2] is None:
                    merged[-1] = [merged[-1][0], part[1], None]
                else:
                    merged.append(part)
            parts[:] = merged

    def run(self, events):
        for number, nbytes in events:
            if number < 0:
                self.free(-number)
            else:
                self.make(number, nbytes)
        return self.taken


def drawn(seed, count=60):
    """Random tensors of more than a MiB, of which a few live at a time."""
    rng, alive, events = random.Random(seed), [], []
    for number in range(1, count):
        events.append((number, rng.randrange(MIB + 512, 90 * MIB, 512)))
        alive.append(number)
        while len(alive) > rng.randrange(1, 6):
            events.append((-alive.pop(rng.randrange(len(alive))), 0))
    return events


@pytest.mark.parametrize("seed", range(12))
def test_the_allocator_takes_what_pytorch_takes(seed):
    """Where equally large parts are unused, which one is taken may differ: none are here."""
    events = drawn(seed)
    for sizes in ((), (200 * MIB,), (64 * MIB, 100 * MIB)):
        assert memory._Allocator(sizes).run(events).taken == Pool(sizes).run(events)


@pytest.mark.parametrize("seed", range(6))
def test_segments_never_take_more(seed, monkeypatch):
    clear_settings(monkeypatch)
    events = drawn(seed)
    as_it_is, found = Pool().run(events), memory.segments(events).sizes
    taken = Pool(found).run(events)
    assert taken <= as_it_is - 16 * MIB if found else taken == as_it_is
    assert all(size >= 10 * MIB for size in found)


def with_hidden(events, before=0, after=0):
    """`events`, and memory that each operation takes beside its result."""
    for number, nbytes in events:
        if number > 0 and before:
            yield 10**6, before
        yield number, nbytes
        if number > 0 and before:
            yield -(10**6), 0
        if number > 0 and after:
            yield 10**6, after
            yield -(10**6), 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hidden", [{"before": 2 * MIB}, {"after": 32 * MIB}], ids=str)
def test_segments_take_no_more_where_operations_take_more(hidden, seed, monkeypatch):
    clear_settings(monkeypatch)
    events = drawn(seed)
    case = list(with_hidden(events, **hidden))
    assert Pool(memory.segments(events).sizes).run(case) <= Pool().run(case)


def test_two_large_values_lie_beside_each_other(monkeypatch):
    """As in VGG: where the first value begins behind the small one before it, the third does not
    fit in front of it."""
    clear_settings(monkeypatch)
    wide = 392 * MIB
    events = [(1, 24 * MIB), (2, wide), (-1, 0), (3, wide), (-2, 0), (4, wide // 4), (-3, 0)]
    found = memory.segments(events).sizes
    assert Pool().run(events) == 2 * wide + 24 * MIB
    assert Pool(found).run(events) <= 2 * wide + 2 * MIB


def test_a_very_long_execution_is_left_as_it_is(monkeypatch):
    clear_settings(monkeypatch)
    monkeypatch.setattr(memory, "_EVENTS", len(growing()))
    assert memory.segments(growing()).sizes
    assert memory.segments(growing(21)).sizes == ()


def clear_settings(monkeypatch):
    for name in memory._SETTINGS:
        monkeypatch.delenv(name, raising=False)


def growing(count=20):
    """As of a dense block: each value is a little larger than the one before, which is freed."""
    events = []
    for number in range(1, count):
        events.append((number, (20 + 4 * number) * MIB))
        if number > 1:
            events.append((1 - number, 0))
    return events


def test_what_grows_takes_little_more_than_is_alive(monkeypatch):
    clear_settings(monkeypatch)
    events = growing()
    live = (20 + 4 * 18 + 20 + 4 * 19) * MIB
    assert Pool().run(events) > 5 * live
    assert Pool(memory.segments(events).sizes).run(events) <= 1.1 * live


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_an_allocator_that_is_set_otherwise_is_left_alone(name, monkeypatch):
    clear_settings(monkeypatch)
    assert memory.segments(growing()).sizes
    monkeypatch.setenv(name, "max_split_size_mb:64")
    assert memory.segments(growing()).sizes == ()


def test_what_is_taken_without_segments(monkeypatch):
    """Tensors of up to a MiB lie in segments of their own kind: as much again is allowed them."""
    clear_settings(monkeypatch)
    small = [(1000 + n, MIB) for n in range(5)]
    events = [*small, *growing(), *((-number, 0) for number, _ in small)]
    found = memory.segments(events)
    assert found.sizes == memory.segments(growing()).sizes
    assert found.without == Pool().run(growing()) + 10 * MIB


def test_small_tensors_and_small_networks_need_no_segments(monkeypatch):
    clear_settings(monkeypatch)
    assert memory.segments([]).sizes == ()
    assert memory.segments([(n, MIB) for n in range(1, 400)]).sizes == ()
    sizes = itertools.chain(*([(n, n * MIB // 4), (-n, 0)] for n in range(1, 60)))
    assert memory.segments(list(sizes)).sizes == ()
