"""ordered_map(): a function on many items by several threads, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from trtnet.workers import Job, Workers

T = TypeVar("T")
R = TypeVar("R")


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
