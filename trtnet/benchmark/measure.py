"""Runs queries for a given time and records the start and end of each of their steps."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtnet.benchmark.trace import Query
from trtnet.engines.device import Event
from trtnet.engines.steps import Steps
from trtnet.errors import UsageError
from trtnet.workers import Job, Workers

_DEPTH = 2  # queries in flight per stream, so that the device never waits for the host


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement; the defaults are trtexec's.

    Attributes:
        warm_up_ms: milliseconds of running before queries count.
        duration_s: least number of seconds of running after that.
        iterations: least number of iterations after the warm-up; each runs one query per stream.
        transfers: whether every query copies its inputs and outputs.
        threads: whether each stream has its own host thread; otherwise one thread serves all.
        idle_ms: milliseconds of pause between two iterations.

    Raises:
        UsageError: a negative or infinite value, or neither a duration nor iterations.
    """

    warm_up_ms: float = 200.0
    duration_s: float = 3.0
    iterations: int = 10
    transfers: bool = True
    threads: bool = False
    idle_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("warm_up_ms", "duration_s", "iterations", "idle_ms"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"{name} cannot be negative or infinite",
                    expected="0 or more",
                    got=getattr(self, name),
                    fix=f"give {name} a value of at least 0",
                )
        if not self.duration_s and not self.iterations:
            raise UsageError(
                "nothing to measure",
                expected="a positive duration or number of iterations",
                got="0 for both",
                fix="give a duration or iterations",
            )


def measure(lanes: Sequence[Steps], settings: Settings | None = None) -> list[Query]:
    """Executes queries on all `lanes`, each on its own stream, and records their times.

    The host stays one query ahead of the device on every stream. A query's copies overlap with
    executions on other streams only: the gain of pipelining shows with two lanes or more.

    Args:
        lanes: execution slots from :meth:`trtnet.Session.lane`, bound and filled.
        settings: how long and how to measure.

    Returns:
        Every query, those of the warm-up included, in the order in which they started.

    Raises:
        UsageError: no lanes.
    """
    settings = settings or Settings()
    if not lanes:
        raise UsageError(
            "nothing to measure",
            expected="at least one lane",
            got="none",
            fix="take lanes from Session.lane()",
        )
    for lane in lanes:  # queries without transfers read these inputs
        lane.copy_in()
        lane.stream.synchronize()
    with contextlib.closing(_Clock(lanes[0])) as clock:
        streams = [_Stream(index, lane, clock, settings) for index, lane in enumerate(lanes)]
        run = _in_threads if settings.threads else _loop
        found = run(streams, settings)
    return sorted(found, key=lambda query: query.h2d_start)


class _Clock:
    """The time zero of a measurement, on the device and on the host."""

    def __init__(self, lane: Steps) -> None:
        self._event = lane.device.new_event(timing=True)
        self._event.record(lane.stream.handle)
        self._event.synchronize()
        self._host = time.perf_counter()

    def host_ms(self) -> float:
        """Milliseconds since time zero, by the host's clock."""
        return 1e3 * (time.perf_counter() - self._host)

    def device_ms(self, event: Event) -> float:
        """Milliseconds from time zero to `event`, by the device's clock."""
        return event.elapsed_ms(self._event)

    def close(self) -> None:
        """Releases the event."""
        self._event.close()


class _Flight:
    """The events and times of one query in flight; reused once it is collected."""

    def __init__(self, lane: Steps, event_count: int) -> None:
        self.events = [lane.device.new_event(timing=True) for _ in range(event_count)]
        self.enqueue = (0.0, 0.0)
        self.busy = False


class _Stream:
    """One lane, with up to ``_DEPTH`` queries in flight."""

    def __init__(self, index: int, lane: Steps, clock: _Clock, settings: Settings) -> None:
        self.index, self.lane, self._clock = index, lane, clock
        self._transfers = settings.transfers
        self._flights = [_Flight(lane, 4 if settings.transfers else 2) for _ in range(_DEPTH)]
        self._next = 0

    def submit(self) -> None:
        """Enqueues a query, and an event before, between and after its steps."""
        lane, flight, handle = self.lane, self._flights[self._next], self.lane.stream.handle
        events = iter(flight.events)
        if self._transfers:
            next(events).record(handle)
            lane.copy_in()
        next(events).record(handle)
        begun = self._clock.host_ms()
        lane.enqueue()
        flight.enqueue = (begun, self._clock.host_ms())
        next(events).record(handle)
        if self._transfers:
            lane.copy_out()
            next(events).record(handle)
        flight.busy = True
        self._next = (self._next + 1) % _DEPTH

    def collect(self) -> Query | None:
        """Waits for the oldest query if ``_DEPTH`` are in flight; otherwise returns ``None``."""
        flight = self._flights[self._next]
        if not flight.busy:
            return None
        flight.busy = False
        flight.events[-1].synchronize()
        times = [self._clock.device_ms(event) for event in flight.events]
        start, end = (times[1], times[2]) if self._transfers else (times[0], times[1])
        return Query(self.index, *flight.enqueue, times[0], start, start, end, end, times[-1])

    def drain(self) -> list[Query]:
        """Waits for all queries in flight and returns them, oldest first."""
        found = []
        for _ in range(_DEPTH):
            query = self.collect()
            if query is not None:
                found.append(query)
            self._next = (self._next + 1) % _DEPTH
        return found

    def close(self) -> None:
        """Releases all events."""
        for flight in self._flights:
            for event in flight.events:
                event.close()


def _loop(
    streams: Sequence[_Stream],
    settings: Settings,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Query]:
    """Runs queries on `streams` from the calling thread until the settings are met.

    Args:
        streams: the streams of this thread.
        settings: how long and how to measure.
        stopped: asked after each iteration whether to end early.
    """
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
    """Runs each stream in its own thread; the first failure, or Ctrl-C, ends all of them."""
    ended = threading.Event()

    def work(stream: _Stream) -> list[Query]:
        try:
            stream.lane.device.activate()
            return _loop([stream], settings, ended.is_set)
        except BaseException:
            ended.set()
            raise

    workers, running = Workers(len(streams)), [Job(work, stream) for stream in streams]
    try:
        for job in running:
            workers.put(job)
        return [query for job in running for query in job.result()]
    finally:
        ended.set()
        for job in running:
            job.cancel()
        workers.close()
        for job in running:  # they use the streams, which the caller gives back
            while not job.wait():
                pass
