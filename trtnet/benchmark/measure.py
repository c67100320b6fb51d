"""Runs queries for a while and notes when each step happened."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trtnet.benchmark.trace import Query
from trtnet.engines.device import Event
from trtnet.engines.steps import Steps
from trtnet.errors import UsageError

_DEPTH = 2  # queries in flight per stream: the device never waits for the host to look at the clock


@dataclass(frozen=True)
class Settings:
    """How long and how to measure; the defaults are trtexec's.

    Attributes:
        warm_up_ms: of running before queries count.
        duration_s: of running after that, at least.
        iterations: after the warm-up, at least; each runs one query per stream.
        transfers: copy inputs and outputs with every query.
        threads: drive each stream from a thread of its own, rather than all from one.
        idle_ms: pause between two iterations.
    """

    warm_up_ms: float = 200.0
    duration_s: float = 3.0
    iterations: int = 10
    transfers: bool = True
    threads: bool = False
    idle_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("warm_up_ms", "duration_s", "iterations", "idle_ms"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} cannot be negative", got=getattr(self, name))
        if not self.duration_s and not self.iterations:
            raise UsageError("nothing to measure", fix="give a duration or iterations")


def measure(lanes: Sequence[Steps], settings: Settings | None = None) -> list[Query]:
    """Executes queries on all `lanes`, each on its own stream.

    The host stays one query ahead of the device on every stream. A query's copies overlap with
    executions on other streams only: two lanes or more show what pipelining gives.

    Args:
        lanes: from :meth:`trtnet.Session.lane`, bound and filled.

    Returns:
        Every query, those of the warm-up too, in the order in which they started.
    """
    settings = settings or Settings()
    if not lanes:
        raise UsageError("there is nothing to measure", fix="give at least one lane")
    for lane in lanes:  # without transfers, queries read what is copied here
        lane.copy_in()
        lane.stream.synchronize()
    with contextlib.closing(_Clock(lanes[0])) as clock:
        streams = [_Stream(index, lane, clock, settings) for index, lane in enumerate(lanes)]
        run = _in_threads if settings.threads else _loop
        found = run(streams, settings)
    return sorted(found, key=lambda query: query.h2d_start)


class _Clock:
    """The moment from which times count, on the device and on the host."""

    def __init__(self, lane: Steps) -> None:
        self._event = lane.device.new_event(timing=True)
        self._event.record(lane.stream.handle)
        self._event.synchronize()
        self._host = time.perf_counter()

    def host_ms(self) -> float:
        return 1e3 * (time.perf_counter() - self._host)

    def device_ms(self, event: Event) -> float:
        return event.elapsed_ms(self._event)

    def close(self) -> None:
        self._event.close()


class _Slot:
    """One query that may be in flight."""

    def __init__(self, lane: Steps, marks: int) -> None:
        self.events = [lane.device.new_event(timing=True) for _ in range(marks)]
        self.enqueue = (0.0, 0.0)
        self.busy = False


class _Stream:
    """One lane, with up to ``_DEPTH`` queries in flight."""

    def __init__(self, index: int, lane: Steps, clock: _Clock, settings: Settings) -> None:
        self.index, self.lane, self._clock = index, lane, clock
        self._transfers = settings.transfers
        self._slots = [_Slot(lane, 4 if settings.transfers else 2) for _ in range(_DEPTH)]
        self._next = 0

    def submit(self) -> None:
        """Enqueues a query, with marks before, between and after its steps."""
        lane, slot, handle = self.lane, self._slots[self._next], self.lane.stream.handle
        marks = iter(slot.events)
        if self._transfers:
            next(marks).record(handle)
            lane.copy_in()
        next(marks).record(handle)
        begun = self._clock.host_ms()
        lane.enqueue()
        slot.enqueue = (begun, self._clock.host_ms())
        next(marks).record(handle)
        if self._transfers:
            lane.copy_out()
            next(marks).record(handle)
        slot.busy = True
        self._next = (self._next + 1) % _DEPTH

    def collect(self) -> Query | None:
        """Waits for the oldest query in flight once all slots are taken."""
        slot = self._slots[self._next]
        if not slot.busy:
            return None
        slot.busy = False
        slot.events[-1].synchronize()
        times = [self._clock.device_ms(event) for event in slot.events]
        start, end = (times[1], times[2]) if self._transfers else (times[0], times[1])
        return Query(self.index, *slot.enqueue, times[0], start, start, end, end, times[-1])

    def drain(self) -> list[Query]:
        """What is still in flight, oldest first."""
        found = []
        for _ in range(_DEPTH):
            query = self.collect()
            if query is not None:
                found.append(query)
            self._next = (self._next + 1) % _DEPTH
        return found

    def close(self) -> None:
        for slot in self._slots:
            for event in slot.events:
                event.close()


def _loop(
    streams: Sequence[_Stream],
    settings: Settings,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Query]:
    """One thread's work on its streams."""
    until_ms = settings.warm_up_ms + 1e3 * settings.duration_s
    found: list[Query] = []
    now_ms, counted = 0.0, 0
    try:
        while (counted < settings.iterations or now_ms < until_ms) and not stopped():
            for stream in streams:
                stream.submit()
            for stream in streams:
                query = stream.collect()
                if query is not None:
                    found.append(query)
                    now_ms = max(now_ms, query.compute_start)
            if now_ms < settings.warm_up_ms:
                continue
            counted += 1
            if settings.idle_ms:
                time.sleep(settings.idle_ms / 1e3)
        for stream in streams:
            found += stream.drain()
    finally:
        for stream in streams:
            stream.lane.stream.synchronize()
            stream.close()
    return found


def _in_threads(streams: Sequence[_Stream], settings: Settings) -> list[Query]:
    """A thread per stream; the first failure, or Ctrl-C, ends them all."""
    ended = threading.Event()

    def work(stream: _Stream) -> list[Query]:
        try:
            stream.lane.device.activate()
            return _loop([stream], settings, ended.is_set)
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(len(streams), "trtnet-bench") as pool:
        running = [pool.submit(work, stream) for stream in streams]
        try:
            return [query for future in running for query in future.result()]
        except BaseException:
            ended.set()
            raise
