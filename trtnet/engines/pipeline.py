"""Work on a stream of items by several threads, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """``function(item)`` for each of `items`, in order, by `threads` threads.

    `items` is advanced in the caller's thread, at most `threads` + 1 items ahead of the results
    taken. Whatever `items` or `function` raises comes out in the place of the result; what was
    begun before then ends, and nothing further is begun.
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
