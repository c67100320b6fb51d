"""Interrupts that wait while PyTorch runs what must not be interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = ("SIGTERM", "SIGHUP", "SIGINT")  # those that commands end with, where there are such
_PATIENCE = 2.0  # seconds after which another signal of the same wish is not held back any more


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Signals whose handlers are functions, such as Ctrl-C, come when the block has ended.

    PyTorch aborts the process if an exception that it does not expect goes through its C++ code
    while that exports a module. A signal that comes again after two seconds does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only
        return
    waiting = _Waiting()
    try:
        waiting.begin()
        yield
    finally:
        waiting.end()


class _Waiting:
    """Holds back the first signal.

    The handlers that it sets pass everything on once it has ended: a signal that comes while they
    are taken away does no harm.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._received: int | None = None
        self._since = 0.0
        self._is_over = False

    def begin(self) -> None:
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            handler = None if number is None else signal.getsignal(number)
            if number is not None and callable(handler):
                self._before[number] = handler
                signal.signal(number, self._handle)

    def end(self) -> None:
        """Sets the former handlers, and has the signal come that was held back."""
        self._is_over = True
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._handle:  # the code may have set another one
                signal.signal(number, handler)
        if self._received is not None:
            signal.raise_signal(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._received is None and not self._is_over:
            self._received, self._since = number, now
        elif self._is_over or now - self._since > _PATIENCE:
            self._before[number](number, frame)
