"""Work that is either not begun or brought to its end, whatever interrupts the program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_POLL_SECONDS = 0.05

T = TypeVar("T")
Stopped = Callable[[], bool]
"""Whether an interrupt has arrived, so that work which can still be given up should be."""


def uninterrupted(work: Callable[[Stopped], T]) -> T:
    """What `work` returns, which is called in a thread of its own.

    Python raises interrupts in the main thread only, between any two of its steps. There an
    interrupt waits until `work`, which is told of it, has ended.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        return work(stop.is_set)
    future: Future[T] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(stop.is_set))
            except BaseException as error:
                future.set_exception(error)

    try:
        try:
            threading.Thread(target=run, name="trtnet-save").start()
        except RuntimeError:  # the system has no more threads, or the program is ending
            return work(stop.is_set)
        _wait(future)
        return future.result()
    except BaseException:
        stop.set()
        if not future.cancel():  # it has begun
            _wait(future)
        raise


def _wait(future: Future[T]) -> None:
    """In short waits: Windows raises no interrupt in the middle of one."""
    while not wait([future], _POLL_SECONDS).done:
        pass
