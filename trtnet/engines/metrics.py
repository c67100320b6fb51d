"""What a session tells whoever counts its calls."""

from __future__ import annotations

from typing import Protocol


class SessionMetrics(Protocol):
    """Receives what happens in a :class:`trtnet.Session`, from all threads that call it."""

    def call_ended(self, rows: int, queue_s: float, latency_s: float) -> None:
        """A call gave its results.

        Args:
            rows: the size of the first axis of its first input; 1 where that has no axes.
            queue_s: how long it waited for an execution context, in seconds.
            latency_s: the whole call, in seconds. Of arrays on a GPU, until the work is enqueued.
        """

    def call_failed(self, kind: str) -> None:
        """A call raised an exception.

        Args:
            kind: the name of its class, such as ``"ShapeError"``.
        """
