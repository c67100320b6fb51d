"""What PyTorch prints while it fails, which errors say better."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any


class _OfOtherThreads:
    """A stream without what the thread that made it writes."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def without_stderr() -> contextlib.AbstractContextManager[Any]:
    """A context in which this thread prints nothing to stderr: ``torch.export`` prints a graph
    there before it raises."""
    return contextlib.redirect_stderr(_OfOtherThreads(sys.stderr))
