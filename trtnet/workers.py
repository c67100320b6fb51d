"""Workers: threads for work that an interrupt must not stop half-way."""

from __future__ import annotations

import _thread
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_PATIENCE = 1.0  # seconds after which one who waits looks again, in case another was interrupted


class Job(Generic[R]):
    """A call that is made at most once, by a worker."""

    def __init__(self, function: Callable[..., R], *arguments: Any) -> None:
        self._call: tuple[Callable[..., R], tuple[Any, ...]] | None = (function, arguments)
        self._values: list[R] = []
        self._error: BaseException | None = None
        self._begins, self._ended = threading.Lock(), threading.Lock()
        self._ended.acquire()
        self._is_done = False

    def run(self) -> None:
        """Makes the call, unless it was made or cancelled before."""
        if not self._begins.acquire(blocking=False):
            return
        call, self._call = self._call, None
        assert call is not None
        try:
            self._values.append(call[0](*call[1]))
        except BaseException as error:
            self._error = error
        del call  # before others go on: they may count on its arguments being free
        self._end()

    def cancel(self) -> None:
        """Keeps the call from being made, if it has not begun."""
        if self._begins.acquire(blocking=False):
            self._call = None
            self._end()

    def _end(self) -> None:
        self._is_done = True
        self._ended.release()

    def wait(self, seconds: float = _PATIENCE) -> bool:
        """Waits until the call has ended or was cancelled, but no longer than `seconds`; says
        whether that is so."""
        if self._ended.acquire(timeout=seconds):
            self._ended.release()
        return self._is_done

    def result(self) -> R:
        """What the call gives, once it has ended; raises what it raised."""
        while not self.wait():
            pass
        if self._error is not None:
            raise self._error
        return self._values[0]


class Workers:
    """`count` threads that make calls in the order in which they were submitted.

    Python runs signal handlers in the main thread, between any two operations there. What runs in
    a worker is therefore never interrupted; whoever waits for it can be, and the worker goes on.
    ``concurrent.futures`` is not used: an interrupt in the middle of its ``submit()`` can leave
    one of its locks locked for ever. A ``SimpleQueue`` is written in C, and has no such middle.

    The threads end with :meth:`close`, or with this object, and then free what they hold.
    """

    def __init__(self, count: int) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._end = weakref.ref(self, self._queue.put)  # C calls C: nothing comes in between
        self._count, self._started, self._closed = count, 0, False

    def submit(self, function: Callable[..., R], *arguments: Any) -> Job[R]:
        """Has a worker call `function` on `arguments`."""
        job = Job(function, *arguments)
        self.put(job)
        return job

    def put(self, job: Job[Any]) -> None:
        """Has a worker do `job`."""
        if self._closed:
            raise RuntimeError("these workers are closed")
        self._queue.put(job)
        if self._started < self._count:
            _thread.start_new_thread(_work, (self._queue, self._end))
            self._started += 1

    def close(self) -> None:
        """Ends the threads once all that was submitted is done."""
        self._closed = True
        self._queue.put(self._end)


def _work(queue: SimpleQueue[Any], end: object) -> None:
    """What a thread does; it keeps `end`, which is only then put when the workers are gone."""
    while True:
        job = queue.get()
        if job is end:  # for the other threads too
            queue.put(job)
            return
        job.run()
        del job  # its results are not kept until the next one


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], threads: int
) -> Generator[R, None, None]:
    """Yields ``function(item)`` for each of `items`, in order, computed by `threads` threads.

    `items` is advanced in the caller's thread, at most `threads` + 1 items ahead of the results
    taken. An exception of `items` or `function` is raised in the place of that result, after
    those before it. Calls that have started are then completed; no further ones are started.
    """
    source, pending = iter(items), deque[Job[R]]()
    workers = Workers(threads)
    try:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except BaseException:
                yield from _results(pending)
                raise
            pending.append(workers.submit(function, item))
            if len(pending) > threads:
                yield _first(pending)
        yield from _results(pending)
    finally:
        for job in pending:
            job.cancel()
        workers.close()
        for job in pending:
            while not job.wait():
                pass


def _results(pending: deque[Job[R]]) -> Iterator[R]:
    while pending:
        yield _first(pending)


def _first(pending: deque[Job[R]]) -> R:
    """The result of the first job, which stays in `pending` as long as it is not done."""
    try:
        return pending[0].result()
    finally:
        if pending[0].wait(0):
            pending.popleft()
