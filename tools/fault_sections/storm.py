"""Interrupts at random moments, as Ctrl-C raises them, for the sections of the fault harness.

POSIX only: Windows has no interval timer.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def _say_nothing(unraisable: object) -> None:
    """Python reports, and drops, an interrupt that comes while an object is being freed."""


_Handler = Callable[[int, "FrameType | None"], object]


@contextmanager
def _handling(timer: _Handler, interrupt: _Handler) -> Iterator[None]:
    """Has the interval timer and Ctrl-C call these; at the end there is no timer."""
    handlers = {signal.SIGALRM: timer, signal.SIGINT: interrupt}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    reporting, sys.unraisablehook = sys.unraisablehook, _say_nothing
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = reporting


class Storm:
    """Calls something again and again in the main thread, and interrupts it.

    Args:
        seed: of the moments.
        shortest, longest: milliseconds from one interrupt to the next.

    Attributes:
        interrupts: how many have been raised inside a call.
        completed: how many calls have come to their end.
    """

    def __init__(self, seed: int = 0, shortest: float = 0.2, longest: float = 3.0) -> None:
        self.interrupts = self.completed = 0
        self._random = random.Random(seed)
        self._shortest, self._longest = shortest / 1e3, longest / 1e3
        self._is_inside = False

    def run(self, action: Callable[[], object], interrupts: int) -> None:
        """Until that many interrupts have been raised. What `action` itself raises ends it."""
        with _handling(self._send, self._interrupt):
            while self.interrupts < interrupts:
                try:
                    self._calls(action, interrupts)
                except KeyboardInterrupt:  # a second one, while the first was dealt with
                    self._is_inside = False

    def _calls(self, action: Callable[[], object], interrupts: int) -> None:
        while self.interrupts < interrupts:
            self._set_timer()
            try:
                self._is_inside = True
                action()
                self.completed += 1
            except KeyboardInterrupt:
                self._is_inside = False
            finally:
                self._is_inside = False

    def _set_timer(self) -> None:
        moments = (self._random.uniform(self._shortest, self._longest) for _ in range(2))
        signal.setitimer(signal.ITIMER_REAL, *moments)

    def _send(self, number: int, frame: FrameType | None) -> None:
        if self._is_inside:
            signal.raise_signal(signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_inside:
            self.interrupts += 1
            raise KeyboardInterrupt


class Burst:
    """Calls something once, and interrupts it once, or twice if the first did not end it.

    Attributes:
        interrupts: how many have been raised.
        is_complete: whether it has come to its end.
    """

    def __init__(self) -> None:
        self.interrupts, self.is_complete = 0, False
        self._sent = 0
        self._is_inside = False

    def run(self, action: Callable[[], object], first: float, second: float) -> None:
        """Calls `action`; interrupts it after `first` seconds, and `second` seconds after that."""
        with _handling(self._send, self._interrupt):
            try:
                try:
                    self._is_inside = True
                    signal.setitimer(signal.ITIMER_REAL, max(first, 1e-5), second)
                    action()
                    self.is_complete = True
                except KeyboardInterrupt:
                    self._is_inside = False
                finally:
                    self._is_inside = False
            except KeyboardInterrupt:  # the second one, while the first was dealt with
                self._is_inside = False

    def _send(self, number: int, frame: FrameType | None) -> None:
        if self._is_inside and self._sent < 2:
            self._sent += 1
            signal.raise_signal(signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_inside:
            self.interrupts += 1
            raise KeyboardInterrupt


def resident_mb() -> float:
    """Megabytes of memory that this process has; 0 where the system does not say."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def thread_count() -> int:
    """How many threads this process has, also those that Python does not know."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
