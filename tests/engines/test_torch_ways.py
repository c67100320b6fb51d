"""Which way a network runs on a GPU; capturing and timing are imitated, so that none is needed."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import plans
import pytest

import trtnet
from trtnet.engines.protocol import CaptureError
from trtnet.errors import ExecutionError, OutOfMemoryError

torch = pytest.importorskip("torch")
Built = pytest.importorskip("trtnet.engines.torch.compiled").Built
cuda = pytest.importorskip("trtnet.engines.torch.cuda")
torch_engine = pytest.importorskip("trtnet.engines.torch.engine")
ways = pytest.importorskip("trtnet.engines.torch.ways")
memory = pytest.importorskip("trtnet.engines.torch.memory")
Segments, TooMuchMemoryError = memory.Segments, memory.TooMuchMemoryError

SHAPE = (4, 3, 8, 8)
TIMED = ", cuDNN's kernels timed"
WITH, WITHOUT = "with tactics", "without tactics"


class StrangeError(Exception):
    """As Triton's errors: of no kind that Python has."""


ERRORS = [RuntimeError, AssertionError, StrangeError]


class Builder:
    """Builds `forward`; remembers in a dictionary."""

    forward: Any = None

    def __init__(self, level=3, held=None, builds=True, saved_us=0.0, convolves=True):
        self.level, self.held, self.builds = level, {} if held is None else held, builds
        self.saved_us, self.convolves, self.built = saved_us, convolves, 0

    def build(self, shapes):
        self.built += 1
        return Built(self.forward, self.saved_us, self.convolves) if self.builds else None

    def recall(self, shapes):
        return self.held.get(shapes)

    def remember(self, shapes, way, microseconds):
        self.held[shapes] = way


LIVE: list[Replay] = []


class Replay:
    """A captured graph: nothing but its life."""

    def __init__(self, way, pool, needs):
        self.way, self.pool, self.needs = way, pool, needs
        LIVE.append(self)

    def close(self):
        LIVE.remove(self)


class Stream:
    """Counts how often it was waited for."""

    cuda_stream = 7

    def __init__(self, device):
        self.waited = 0

    def synchronize(self):
        self.waited += 1


@pytest.fixture
def engine():
    """A context of an engine; capturing takes what `milliseconds` says of each way."""
    compiled = torch_engine.load(trtnet.Plan.load(plans.path("static")), device="cpu")._compiled
    pools = itertools.count()

    class Context(cuda.CudaContext):
        def __init__(self, ways):
            super().__init__(compiled, ways)
            self.captured, self.threads, self.most, self.pools = [], {}, 0, []
            self.needs, self.given_up = {}, []

        @contextlib.contextmanager
        def _on(self, stream, is_timed=False):
            self.threads.setdefault(is_timed, set()).add(threading.get_ident())
            yield

        def _capture(self, stream, way):
            if way.name in self.refused:
                self.pools.append(self._pool)
                raise CaptureError("PyTorch cannot capture this graph", got=way.name)
            needs = self.needs.get(way.name, 0)
            if needs > way.most_bytes:
                self.given_up.append((way.name, way.most_bytes))
                raise TooMuchMemoryError(f"{needs} bytes")
            with self._on(stream, way.is_timed):
                self.captured.append(way.name)
            self.pools.append(self._pool)
            replay = Replay(way.name, self._pool, needs)
            self.most = max(self.most, len(LIVE))
            return replay

        def _fastest(self, replay):
            return self.milliseconds[replay.way]

    def make(builder, milliseconds=None, refused=()):
        compiled.tactics = builder
        if builder is not None and builder.forward is None:
            builder.forward = lambda x: compiled.module(x)
        context = Context(ways.Ways(compiled))
        context.milliseconds, context.refused = milliseconds or {}, set(refused)
        context.set_input_shape("x", SHAPE)
        context.output_shapes()
        return context

    LIVE.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
        yield make


TIMES = {WITH: 1.0, WITHOUT: 2.0, WITH + TIMED: 0.9, WITHOUT + TIMED: 1.5}


@pytest.mark.parametrize(
    ("level", "tried"),
    [(0, [WITH]), (1, [WITH]), (2, [WITH]), (3, [WITH, WITHOUT, WITH + TIMED]),
     (4, list(TIMES)), (5, list(TIMES))],
)  # fmt: skip
def test_levels_try_so_many_ways(level, tried, engine):
    context = engine(Builder(level), TIMES)
    best = min(tried, key=TIMES.__getitem__)
    assert context.capture(0).way == best
    assert best == tried[-1] or level > 3
    assert context.captured == (tried if best == tried[-1] else [*tried, best])
    assert context.tried == {name: pytest.approx(1e3 * TIMES[name]) for name in tried}


def test_without_a_builder_both_choices_of_cudnn_are_tried(engine):
    context = engine(None, TIMES)
    assert context.capture(0).way == WITHOUT + TIMED
    assert context.captured == [WITHOUT, WITHOUT + TIMED]


@pytest.mark.parametrize("level", [1, 3])
def test_what_cannot_be_built_runs_as_it_is(level, engine):
    context = engine(Builder(level, builds=False), TIMES)
    assert context.capture(0).way == (WITHOUT if level == 1 else WITHOUT + TIMED)


@pytest.mark.parametrize("fastest", TIMES)
def test_one_graph_exists_at_a_time(fastest, engine, monkeypatch):
    """Each has a pool of its own, whose memory is free before the next way runs; the last is not
    captured again where it is the fastest."""
    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(len(LIVE)))
    context = engine(Builder(5), {**TIMES, fastest: 0.1})
    kept = context.capture(0)
    last = [*TIMES][-1]
    assert context.captured == [*TIMES, *([] if fastest == last else [fastest])]
    assert freed == [0] * (len(context.captured) - 1)
    assert context.most == 1
    assert [kept] == LIVE
    assert kept.way == fastest
    assert kept.pool == context._pool
    again = context.capture(0)
    assert again.pool == kept.pool


MIB = 1 << 20


@pytest.mark.parametrize(
    ("needs", "is_given_up"),
    [((100, 131), False), ((100, 133), True), ((1000, 1099), False), ((1000, 1101), True),
     ((0, 9000), False), ((1000, 10), False)],
)  # fmt: skip
def test_a_way_that_needs_much_more_memory_is_given_up(needs, is_given_up, engine):
    """More by a tenth and by 32 MiB than the best one; `needs` are in MiB, 0 where that is not
    known. It is given up once: with cuDNN's kernels timed its values are the same. What has tactics
    is never given up."""
    context = engine(Builder(5), {**TIMES, WITHOUT: 0.1, WITHOUT + TIMED: 0.2})
    context.needs = {
        **dict.fromkeys((WITH, WITH + TIMED), needs[0] * MIB),
        **dict.fromkeys((WITHOUT, WITHOUT + TIMED), needs[1] * MIB),
    }
    kept = context.capture(0)
    assert kept.way == (WITH + TIMED if is_given_up else WITHOUT)
    assert [name for name, _ in context.given_up] == [WITHOUT] * is_given_up
    slower = (WITHOUT, WITHOUT + TIMED)
    assert [*context.tried] == [*TIMES]
    assert [context.tried[name] == math.inf for name in slower] == [is_given_up] * 2
    assert all(context.tried[name] < math.inf for name in (WITH, WITH + TIMED))
    assert [kept] == LIVE


def test_a_known_way_may_need_any_memory(engine):
    context = engine(Builder(held={(SHAPE,): WITHOUT}))
    context.needs = {WITHOUT: 1 << 40}
    assert context.capture(0).way == WITHOUT


def test_what_was_given_up_keeps_no_memory(engine):
    made = []

    class Large(type(engine(None))):
        def _capture(self, stream, way):
            assert not [ref for ref in made if ref() is not None]
            if way.most_bytes < math.inf:
                value = torch.ones(3)
                made.append(weakref.ref(value))
                raise TooMuchMemoryError
            return super()._capture(stream, way)

    context = engine(Builder(5), TIMES)
    large = Large(context._ways)
    large.set_input_shape("x", SHAPE)
    large.milliseconds, large.refused, large.needs = TIMES, set(), {WITH: 9}
    gc.disable()
    try:
        assert large.capture(0).way == WITH + TIMED
    finally:
        gc.enable()
    assert len(made) == 1


@pytest.mark.parametrize(
    ("level", "saved_us", "is_tried"),
    [(3, 0.0, True), (3, 99.0, True), (3, 101.0, False), (3, math.inf, False),
     (4, 101.0, True), (5, math.inf, False)],
)  # fmt: skip
def test_what_is_clearly_slower_is_not_run(level, saved_us, is_tried, engine):
    """Neither at level 3 what is so by the times of its parts, nor ever what emulates. The way with
    tactics takes 1,000 us."""
    context = engine(Builder(level, saved_us=saved_us), TIMES)
    context.capture(0)
    assert (WITHOUT in context.captured) is is_tried
    assert (WITHOUT + TIMED in context.captured) is (is_tried and level > 3)
    assert WITH + TIMED in context.captured


@pytest.mark.parametrize("saved_us", [500.0, math.inf])
def test_what_is_clearly_slower_runs_where_nothing_else_can_be_captured(saved_us, engine):
    context = engine(Builder(saved_us=saved_us), TIMES, {WITH, WITH + TIMED})
    assert context.capture(0).way == WITHOUT


@pytest.mark.parametrize("level", [3, 5])
def test_without_convolutions_there_is_nothing_to_time_of_cudnn(level, engine):
    context = engine(Builder(level, convolves=False), TIMES)
    context.capture(0)
    assert WITH + TIMED not in context.captured
    assert (WITHOUT + TIMED in context.captured) is (level > 3)


def test_ways_are_kept_for_the_shapes_used_last(engine):
    """Each has a module; what is dropped is built again when it is asked for."""
    held = {((n, 3, 8, 8),): WITH for n in range(200)}
    context = engine(Builder(held=held))
    every = list(held)
    for shapes in every:
        assert context._known(0, every[0]).name == context._known(0, shapes).name == WITH
    kept = [shapes for shapes in every if context._ways.was_asked(shapes)]
    assert kept == [every[0], *every[-63:]]
    assert context.compiled.tactics.built == 200
    assert context._known(0, every[1]).name == WITH
    assert context.compiled.tactics.built == 201


def test_a_slow_set_up_must_be_worth_it(engine):
    assert engine(Builder(), {**TIMES, WITH + TIMED: 0.98}).capture(0).way == WITH
    assert engine(Builder(), {**TIMES, WITH + TIMED: 0.96}).capture(0).way == WITH + TIMED
    assert engine(Builder(), {**TIMES, WITHOUT: 0.5}).capture(0).way == WITHOUT


@pytest.mark.parametrize("name", TIMES)
def test_a_known_way_is_the_only_one_that_is_made(name, engine):
    held = {(SHAPE,): name}
    context = engine(Builder(held=held))  # no times: none may be asked for
    assert context.capture(0).way == name
    assert (context.captured, context.tried) == ([name], {})
    assert context.compiled.tactics.built == (name in (WITH, WITH + TIMED))
    assert held == {(SHAPE,): name}


def test_the_choice_is_that_of_the_first_session(engine):
    held = {}
    first = engine(Builder(held=held), TIMES).capture(0).way
    other = engine(Builder(held=held), {**TIMES, WITHOUT: 0.1})
    assert other.capture(0).way == first == held[(SHAPE,)]
    assert len(other.captured) == 1


def test_contexts_of_an_engine_share_what_is_known(engine):
    context = engine(Builder(), TIMES)
    context.capture(0)
    second = type(context)(context._ways)
    second.set_input_shape("x", SHAPE)
    second.milliseconds, second.refused = {}, ()
    assert second.capture(0).way == WITH + TIMED
    assert len(second.captured) == 1


def test_contexts_that_capture_at_once_choose_once(engine):
    context = engine(Builder(), TIMES)
    second = type(context)(context._ways)
    second.set_input_shape("x", SHAPE)
    second.milliseconds, second.refused = TIMES, set()
    both = threading.Barrier(2)
    second._given = context._given = lambda: both.wait() * 0 or (SHAPE,)
    with ThreadPoolExecutor(2) as pool:
        replays = list(pool.map(lambda each: each.capture(0), (context, second)))
    assert [replay.way for replay in replays] == [WITH + TIMED] * 2
    assert context.compiled.tactics.built == 1
    assert sorted(len(each.captured) for each in (context, second)) == [1, 3]


def test_a_context_waits_for_the_way_that_another_asks_for(engine):
    started, goes_on = threading.Event(), threading.Event()

    class Slow(Builder):
        def build(self, shapes):
            started.set()
            assert goes_on.wait(60)
            return super().build(shapes)

    context = engine(Slow(held={(SHAPE,): WITH}))
    second = type(context)(context._ways)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(context._known, 0, (SHAPE,))
        assert started.wait(60)
        other = pool.submit(second._known, 0, (SHAPE,))
        assert not other.done()
        goes_on.set()
        assert first.result().name == other.result().name == WITH
    assert context.compiled.tactics.built == 1


@pytest.mark.parametrize("held", [{}, {(SHAPE,): WITH}], ids=["chosen", "known"])
def test_what_is_built_is_complete_before_others_read_it(held, engine):
    """Other contexts read it on streams of their own, which do not wait for the builder's."""
    context = engine(Builder(held=held), TIMES)
    find = context._ways.known
    seen = []

    def known(shapes):
        seen.append((context.compiled.tactics.built, context._stream.waited))
        return find(shapes)

    context._ways.known = known
    context.capture(0)
    context.capture(0)
    assert context.compiled.tactics.built == 1
    assert all(waited >= built for built, waited in seen)
    assert seen[-1][0] == 1


def test_an_unknown_name_is_chosen_anew(engine):
    held = {(SHAPE,): "of a later version"}
    assert engine(Builder(held=held), TIMES).capture(0).way == WITH + TIMED
    assert held == {(SHAPE,): WITH + TIMED}


def test_other_shapes_are_chosen_anew(engine):
    context = engine(Builder(held={((1, 3, 8, 8),): WITHOUT}), TIMES)
    assert context.capture(0).way == WITH + TIMED


def test_ways_that_cannot_be_captured_are_left_out(engine, raises):
    assert engine(Builder(), TIMES, {WITH, WITH + TIMED}).capture(0).way == WITHOUT
    with raises(CaptureError, "cannot capture this graph", WITH + TIMED):
        engine(Builder(), TIMES, TIMES).capture(0)


def test_a_failed_capture_leaves_its_pool_to_nobody(engine):
    """PyTorch refuses a pool without a graph while an error's traceback holds a tensor in it."""
    context = engine(Builder(), TIMES, {WITH})
    context.capture(0)
    assert len({*context.pools}) == len(context.pools) == len(context.captured) + 1


def test_a_failed_capture_keeps_no_memory_while_others_are_tried(engine, raises):
    """The frames of what failed hold the tensors that it computed."""
    made = []

    class Failing(type(engine(None))):
        def _capture(self, stream, way):
            assert not [ref for ref in made if ref() is not None]
            value = torch.ones(3)
            made.append(weakref.ref(value))
            try:
                raise RuntimeError("a kernel fails")
            except RuntimeError as error:
                raise CaptureError("PyTorch cannot capture this graph", got=error) from error

    context = engine(Builder())
    failing = Failing(context._ways)
    failing.set_input_shape("x", SHAPE)
    gc.disable()
    try:
        with raises(CaptureError, "cannot capture this graph", "a kernel fails"):
            failing.capture(0)
    finally:
        gc.enable()
    assert len(made) == 3


@pytest.mark.parametrize("error", ERRORS)
def test_any_failure_of_a_way_is_one_to_capture_it(error, engine, monkeypatch, raises):
    def fail(x):
        raise error("a kernel fails")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    context = engine(None)
    x = torch.randn(SHAPE)
    context.set_tensor_address("x", x.data_ptr())
    with raises(CaptureError, "cannot capture this graph", "a kernel fails"):
        cuda.CudaContext._capture(context, 0, ways.Way(WITH, fail))


@pytest.fixture
def recorded(engine, monkeypatch):
    """What captures on the CPU a graph that takes `taken` bytes, where `without` are expected
    without segments. It returns the replay, what was done (graphs that were recorded, each with the
    segments taken first, and given up), and the pool that is left."""
    reserved = [0]

    @contextlib.contextmanager
    def recording(graph, stream, pool):
        done.append(("record", pool))
        yield

    def reserve(sizes, device):
        done.append(list(sizes))
        reserved[0] += setting["taken"]

    def wanted(events):
        return Segments([n for _, n in events if n], setting["without"])

    done, setting = [], {}
    graph = types.SimpleNamespace(reset=lambda: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: reserved[0])
    for name, double in (("recording", recording), ("segments", wanted), ("reserve", reserve)):
        monkeypatch.setattr(cuda, name, double)
    context = engine(None)
    arrays = {"x": torch.randn(SHAPE), "y": torch.zeros(4, 4, 8, 8)}
    for name, array in arrays.items():
        context.set_tensor_address(name, array.data_ptr())

    def capture(forward, taken=100, without=100, **options):
        assert arrays  # which stay alive
        done.clear()
        setting.update(taken=taken, without=without)
        made = cuda.CudaContext._capture(context, 0, ways.Way(WITH, forward, **options))
        return made, done, context._pool

    return context.compiled, capture


SIZES = [4 * 4 * 4 * 8 * 8]  # of y: the only value of this network


def test_segments_are_taken_for_what_the_execution_before_needed(recorded):
    compiled, capture = recorded
    replay, done, pool = capture(compiled.module.forward)
    assert done == [("record", pool), SIZES]
    assert replay.needs == sum(SIZES)


def test_a_graph_that_takes_more_with_segments_is_recorded_without(recorded):
    """In another pool: PyTorch refuses one that no graph has any more."""
    compiled, capture = recorded
    replay, done, pool = capture(compiled.module.forward, taken=101)
    assert done[1:3] == [SIZES, "reset"]
    assert done[3:] == [("record", pool), []]
    assert done[0] != ("record", pool)
    assert replay.needs == sum(SIZES)


def test_what_torch_compile_made_is_not_watched(recorded):
    """It would be compiled again."""
    compiled, capture = recorded
    replay, done, pool = capture(lambda x: compiled.module.forward(x), taken=101)
    assert done == [("record", pool), []]
    assert replay.needs == 0


def test_a_capture_that_would_need_too_much_says_so(recorded):
    """It is no failure of the capture: another way is taken."""
    compiled, capture = recorded
    with pytest.raises(TooMuchMemoryError):
        capture(compiled.module.forward, most_bytes=1000)


def test_a_known_way_that_cannot_be_captured_is_replaced(engine, raises):
    held = {(SHAPE,): WITH}
    assert engine(Builder(held=held), TIMES, {WITH, WITH + TIMED}).capture(0).way == WITHOUT
    assert held == {(SHAPE,): WITHOUT}
    with raises(CaptureError, "cannot capture this graph"):
        engine(Builder(held={(SHAPE,): WITHOUT}), TIMES, {WITHOUT}).capture(0)


def test_threads_belong_to_choices_of_cudnn(engine):
    """PyTorch keeps the chosen kernels for each thread: what ran once is not chosen again."""
    context = engine(Builder(), TIMES)
    run(context)
    context.capture(0)
    assert [len(context.threads[is_timed]) for is_timed in (False, True)] == [1, 1]
    assert context.threads[False].isdisjoint(context.threads[True])


def run(context):
    """Executes on memory of the host, which stands for the GPU's."""
    x, y = torch.randn(SHAPE), torch.zeros(4, 4, 8, 8)
    for name, array in (("x", x), ("y", y)):
        context.set_tensor_address(name, array.data_ptr())
    context.execute(0)
    assert torch.equal(y, context.compiled.module(x)["y"])
    return True in context.threads


@pytest.mark.parametrize(("level", "second"), [(0, False), (2, False), (3, True), (5, True)])
def test_cudnn_is_timed_in_the_second_execution_without_a_graph(level, second, engine):
    """The first may be followed by a capture, or by other shapes."""
    context = engine(Builder(level))
    assert [run(context) for _ in range(3)] == [False, second, second]


def test_who_allocates_outputs_executes(engine):
    """A session gives that thread alone memory: another would wait for it, and it for the other."""
    context = engine(Builder(held={(SHAPE,): WITH}))
    y, asked = torch.zeros(4, 4, 8, 8), []

    def allocate(nbytes):
        asked.append((nbytes, threading.get_ident()))
        return y.data_ptr()

    x = torch.randn(SHAPE)
    context.set_tensor_address("x", x.data_ptr())
    context.set_output_allocator("y", allocate)
    context.execute(0)
    assert asked == [(4 * y.numel(), threading.get_ident())]
    assert torch.equal(y, context.compiled.module(x)["y"])


def test_a_known_way_is_executed_too(engine):
    context = engine(Builder(held={(SHAPE,): WITH}))
    context.compiled.forward = None  # is not called
    run(context)
    assert context.compiled.tactics.built == 1
    run(context)
    assert context.compiled.tactics.built == 1
    assert context.capture(0).way == WITH


@pytest.mark.parametrize(
    "error", [*(kind("a kernel fails") for kind in ERRORS), torch.OutOfMemoryError("full")]
)
def test_tactics_that_fail_in_an_execution(error, engine, raises):
    def fail(x):
        raise error

    class Failing(Builder):
        forward = staticmethod(fail)

    context = engine(Failing(held={(SHAPE,): WITH}), {WITHOUT: 1.0, WITHOUT + TIMED: 1.0})
    if isinstance(error, torch.OutOfMemoryError):
        with raises(OutOfMemoryError, "out of memory"):
            run(context)
        return
    with pytest.warns(RuntimeWarning, match=r"tactics of this network fail.*a kernel fails"):
        run(context)
    run(context)  # without a warning
    if isinstance(error, StrangeError):
        return
    context.compiled.forward = fail
    context = engine(Failing(held={(SHAPE,): WITH}))
    with raises(ExecutionError, "the layer fails on these inputs"):
        run(context)


def test_a_graph_keeps_what_it_reads(engine, monkeypatch):
    """Its way may be forgotten, or chosen again by another context, while it is replayed."""

    class Graph:
        def reset(self):
            pass

    class Stored(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("term", torch.ones(SHAPE))

        def forward(self, x):
            return {"y": (x + self.term)[:, :1].expand(4, 4, 8, 8)}

    context = engine(None)
    x, y, module = torch.randn(SHAPE), torch.zeros(4, 4, 8, 8), Stored()
    for name, array in (("x", x), ("y", y)):
        context.set_tensor_address(name, array.data_ptr())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(cuda, "recording", lambda *_: contextlib.nullcontext())
    way, term = ways.Way(WITH, module.forward), weakref.ref(module.term)
    replay = cuda.CudaContext._capture(context, 0, way)
    del way, module
    gc.collect()
    assert term() is not None
    replay.close()
    gc.collect()
    assert term() is None
