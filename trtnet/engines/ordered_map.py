"""ordered_map(): a function on many items by several threads, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yields ``function(item)`` for each of `items`, in order, computed by `threads` threads.

    `items` is advanced in the caller's thread, at most `threads` + 1 items ahead of the results
    taken. An exception of `items` or `function` is raised in the place of that result, after
    those before it. Calls that have started are then completed; no further ones are started.
    """
    source, pending = iter(items), deque[Future[R]]()
    with ThreadPoolExecutor(threads, "trtnet-map") as pool:
        try:
            while True:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except BaseException:
                    yield from _results(pending)
                    raise
                pending.append(pool.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            yield from _results(pending)
        finally:
            for future in pending:
                future.cancel()


def _results(pending: deque[Future[R]]) -> Iterator[R]:
    while pending:
        yield pending.popleft().result()
