"""Measuring, with lanes whose times are known."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import nn
from trtnet.benchmark import Settings, measure, summarize, without_warm_up
from trtnet.benchmark.inputs import random_inputs
from trtnet.engines.protocol import Binding

COPY_MS, EXECUTE_MS, BACK_MS = 2.0, 5.0, 1.0


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.ms = 100.0

    def __call__(self) -> float:
        return self.ms / 1e3


class Mark:
    """An event: when its stream gets there."""

    live = 0

    def __init__(self) -> None:
        self.at: float | None = None
        Mark.live += 1

    def record(self, stream: FakeStream) -> None:
        self.at = stream.end()

    def synchronize(self) -> None:
        assert self.at is not None, "waits for a mark that was never set"

    def elapsed_ms(self, earlier: Mark) -> float:
        assert self.at is not None
        assert earlier.at is not None
        return self.at - earlier.at

    def close(self) -> None:
        Mark.live -= 1


class FakeStream:
    """A device queue that works beside the host's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._until = clock, 0.0

    @property
    def handle(self) -> FakeStream:
        return self

    def end(self) -> float:
        return max(self._until, self._clock.ms)

    def work(self, ms: float) -> None:
        self._until = self.end() + ms

    def synchronize(self) -> None:
        self._clock.ms = self.end()


class FakeDevice:
    kind = "cuda"

    def __init__(self) -> None:
        self.activated: list[str] = []

    def new_event(self, timing: bool = False) -> Mark:
        assert timing
        return Mark()

    def activate(self) -> None:
        self.activated.append(threading.current_thread().name)


class FakeLane:
    """Enqueues in 0.5 ms; `calls` are its steps in order."""

    def __init__(self, clock: Clock, fails_at: int = 10**9) -> None:
        self.device, self.stream = FakeDevice(), FakeStream(clock)
        self.calls: list[str] = []
        self._clock, self._fails_at = clock, fails_at

    def copy_in(self) -> None:
        self._do("in", COPY_MS)

    def enqueue(self) -> None:
        if self.calls.count("run") == self._fails_at:
            raise trtnet.TrtnetError("the execution failed")
        self._clock.ms += 0.5
        self._do("run", EXECUTE_MS)

    def copy_out(self) -> None:
        self._do("out", BACK_MS)

    def _do(self, step: str, ms: float) -> None:
        self.calls.append(step)
        self.stream.work(ms)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    Mark.live = 0
    return made


def run(lanes: Sequence[Any], **settings: Any) -> list[Any]:
    return measure(lanes, Settings(**{"warm_up_ms": 0, "duration_s": 0, **settings}))


def test_each_step_is_timed_by_itself(clock: Clock) -> None:
    lane = FakeLane(clock)
    trace = run([lane], iterations=6)
    assert len(trace) == 6
    for query in trace:
        assert query.h2d == pytest.approx(COPY_MS)
        assert query.compute == pytest.approx(EXECUTE_MS)
        assert query.d2h == pytest.approx(BACK_MS)
        assert query.enqueue == pytest.approx(0.5)
        assert query.latency == pytest.approx(8)
    assert lane.calls == ["in", *["in", "run", "out"] * 6]
    assert Mark.live == 0


def test_without_transfers_only_executions_run(clock: Clock) -> None:
    lane = FakeLane(clock)
    trace = run([lane], iterations=5, transfers=False)
    assert lane.calls == ["in", *["run"] * 5]  # the inputs are on the device once
    # The device is idle while the first one is enqueued, and that shows in its time
    assert [query.latency for query in trace] == pytest.approx([5.5, *[EXECUTE_MS] * 4])
    assert {query.h2d for query in trace} == {0.0}
    assert {query.d2h for query in trace} == {0.0}


def test_the_device_never_waits_for_the_host(clock: Clock) -> None:
    trace = run([FakeLane(clock)], iterations=8)
    for earlier, later in itertools.pairwise(trace):
        assert later.h2d_start == pytest.approx(earlier.d2h_end)


def test_queries_of_all_streams_come_in_order(clock: Clock) -> None:
    lanes = [FakeLane(clock) for _ in range(3)]
    trace = run(lanes, iterations=4)
    assert sorted(query.stream for query in trace) == sorted([0, 1, 2] * 4)
    starts = [query.h2d_start for query in trace]
    assert starts == sorted(starts)


def test_duration_counts_from_the_end_of_the_warm_up(clock: Clock) -> None:
    trace = run([FakeLane(clock)], warm_up_ms=40, duration_s=0.16, iterations=1)
    counted = without_warm_up(trace, 40)
    assert counted[-1].compute_start >= 200
    assert summarize(counted).walltime_s >= 0.16
    assert len(trace) - len(counted) == pytest.approx(5, abs=1)  # 8 ms each


def test_iterations_count_from_the_end_of_the_warm_up(clock: Clock) -> None:
    trace = run([FakeLane(clock)], warm_up_ms=40, iterations=12)
    assert len(without_warm_up(trace, 40)) == pytest.approx(12, abs=1)
    assert len(without_warm_up(trace, 40)) >= 12


def test_idle_time_passes_between_iterations(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    run([FakeLane(clock)], iterations=4, idle_ms=3)
    assert slept == [0.003] * 4


def test_threads_each_drive_one_stream_on_the_device(clock: Clock) -> None:
    lanes = [FakeLane(clock) for _ in range(3)]
    trace = run(lanes, iterations=5, threads=True)
    assert {query.stream for query in trace} == {0, 1, 2}
    for lane in lanes:
        assert lane.calls.count("run") >= 5
        assert lane.device.activated != [threading.current_thread().name]
        assert len(lane.device.activated) == 1
    assert Mark.live == 0


@pytest.mark.parametrize("threads", [False, True])
def test_a_failure_ends_the_measurement(clock: Clock, threads: bool, raises: Callable) -> None:
    lanes = [FakeLane(clock), FakeLane(clock, fails_at=3)]
    with raises(trtnet.TrtnetError, "the execution failed"):
        run(lanes, iterations=10**6, threads=threads)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_up_ms": -1}, "warm_up_ms cannot be negative"),
        ({"duration_s": 0, "iterations": 0}, "nothing to measure"),
    ],
)
def test_senseless_settings(settings: dict, message: str, raises: Callable) -> None:
    with raises(trtnet.UsageError, message):
        Settings(**settings)


def test_nothing_to_measure(raises: Callable) -> None:
    with raises(trtnet.UsageError, "nothing to measure", "lane"):
        measure([])


def test_a_real_session_on_the_cpu() -> None:
    net = trtnet.Network(backend="torch")
    net.output("y", nn.ReLU()(net.input("x", (4, 8))))
    with trtnet.Session(trtnet.build(net), device="cpu") as session, session.lane() as lane:
        lane.bind({"x": (4, 8)})
        values = random_inputs(session.inputs, {"x": (4, 8)})
        lane.fill(values)
        trace = measure([lane], Settings(warm_up_ms=0, duration_s=0, iterations=5))
        lane.stream.synchronize()
        np.testing.assert_array_equal(lane.results()["y"], np.maximum(values["x"], 0))
    assert len(trace) == 5
    assert all(0 < query.compute <= query.latency for query in trace)
    assert all(query.d2h_end >= query.compute_end for query in trace)


def test_random_inputs_are_seeded_and_of_the_engines_types() -> None:
    bindings = [
        Binding(name, name, (-1, 3), True)
        for name in ("float32", "float16", "bfloat16", "int64", "bool")
    ]
    shapes = {binding.name: (5, 3) for binding in bindings}
    values = random_inputs(bindings, shapes)
    assert {name: (str(x.dtype), x.shape) for name, x in values.items()} == {
        "float32": ("float32", (5, 3)),
        "float16": ("float16", (5, 3)),
        "bfloat16": ("uint16", (5, 3)),
        "int64": ("int64", (5, 3)),
        "bool": ("bool", (5, 3)),
    }
    again = random_inputs(bindings, shapes)
    assert all(np.array_equal(values[name], again[name]) for name in values)
    wide = (values["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    assert 0.1 < wide.std() < 3
