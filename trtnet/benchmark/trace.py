"""Traces: the start and the end of each step of each query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from trtnet.benchmark.trace_keys import KEYS
from trtnet.errors import UsageError
from trtnet.reading import documents
from trtnet.reading.documents import Source
from trtnet.reading.schema import checked


@dataclass(frozen=True)
class Query:
    """The times of one execution, in milliseconds since the measurement began: enqueue times by
    the host's clock, all others by the device's.

    Attributes:
        stream: index of the stream that it ran on.
        enqueue_start, enqueue_end: the host's call that enqueues the execution.
        h2d_start, h2d_end: the copy of the inputs to the device; without one both are
            `compute_start`.
        compute_start, compute_end: the execution itself.
        d2h_start, d2h_end: the copy of the outputs to the host; without one both are
            `compute_end`.
    """

    stream: int
    enqueue_start: float
    enqueue_end: float
    h2d_start: float
    h2d_end: float
    compute_start: float
    compute_end: float
    d2h_start: float
    d2h_end: float

    @property
    def enqueue(self) -> float:
        """Milliseconds of the host's call."""
        return self.enqueue_end - self.enqueue_start

    @property
    def h2d(self) -> float:
        """Milliseconds of the copy to the device."""
        return self.h2d_end - self.h2d_start

    @property
    def compute(self) -> float:
        """Milliseconds of the execution."""
        return self.compute_end - self.compute_start

    @property
    def d2h(self) -> float:
        """Milliseconds of the copy to the host."""
        return self.d2h_end - self.d2h_start

    @property
    def latency(self) -> float:
        """Milliseconds of both copies and the execution, without the waiting in between."""
        return self.h2d + self.compute + self.d2h


Trace = Sequence[Query]
"""Queries in the order of their `h2d_start`."""


def without_warm_up(trace: Trace, warm_up_ms: float) -> Trace:
    """`trace` from the first query whose execution started after `warm_up_ms`, as in trtexec.

    Raises:
        UsageError: no query started after the warm-up.
    """
    for index, query in enumerate(trace):
        if query.compute_start >= warm_up_ms:
            return trace[index:]
    raise UsageError(
        "no query was measured",
        expected=f"queries after a warm-up of {warm_up_ms:g} ms",
        got=f"{len(trace)} queries",
        fix="measure longer, or warm up for less time",
    )


def to_json(trace: Iterable[Query]) -> list[dict[str, float]]:
    """`trace` in the format of ``trtexec --exportTimes``."""
    return [{key: getattr(query, name) for name, key in KEYS.items()} for query in trace]


def from_json(text: str | bytes) -> list[Query]:
    """The trace in a file that ``--exportTimes`` of trtexec or trtnet wrote.

    The format has no stream indices: all queries get stream 0.

    Raises:
        UsageError: text in another format.
    """
    from trtnet.benchmark.trace_format import TracedQuery  # needs msgspec

    fix = "write the file again with --exportTimes"
    source = Source("this text", "a timing trace, as --exportTimes writes it", fix=fix)
    stated = checked(documents.from_json(text, source), list[TracedQuery], source)
    times = [field.name for field in fields(Query) if field.name != "stream"]
    return [Query(0, *(getattr(query, name) for name in times)) for query in stated]
