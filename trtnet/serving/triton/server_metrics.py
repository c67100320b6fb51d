"""The calls of a session among Triton's own metrics."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from trtnet.serving.metrics import SECONDS


class ServerMetrics:
    """Counts the calls of an exported engine; see :class:`trtnet.engines.metrics.SessionMetrics`.

    Names are those of :class:`trtnet.serving.metrics.PrometheusMetrics`, labels `model` and
    `version`. Histograms are counters of Prometheus's three kinds, as Triton
    2.51 has no histograms for models: ``_bucket`` with the label `le`, ``_sum`` and ``_count``.

    Args:
        utils: Triton's ``triton_python_backend_utils``.
        model, version: values of the labels.
    """

    def __init__(self, utils: Any, model: str, version: str) -> None:
        self._utils, self._labels = utils, {"model": model, "version": version}
        self._families: dict[str, Any] = {}
        self._calls = self._metric("trtnet_session_calls_total", "Calls that gave results.")
        self._rows = self._metric("trtnet_session_rows_total", "Rows of their batches.")
        self._queue = self._histogram("queue", "Waits for an execution context.")
        self._latency = self._histogram("latency", "Whole calls.")
        self._failures: dict[str, Any] = {}

    def call_ended(self, rows: int, queue_s: float, latency_s: float) -> None:
        """See :class:`trtnet.engines.metrics.SessionMetrics`."""
        self._calls.increment(1)
        self._rows.increment(rows)
        self._queue.observe(queue_s)
        self._latency.observe(latency_s)

    def call_failed(self, kind: str) -> None:
        """See :class:`trtnet.engines.metrics.SessionMetrics`."""
        if kind not in self._failures:
            self._failures[kind] = self._metric(
                "trtnet_session_failures_total", "Calls that raised an exception.", kind=kind
            )
        self._failures[kind].increment(1)

    def _metric(self, name: str, about: str, **labels: str) -> Any:
        if name not in self._families:
            kind = self._utils.MetricFamily.COUNTER
            family = self._utils.MetricFamily(name=name, description=about, kind=kind)
            self._families[name] = family
        return self._families[name].Metric(labels={**self._labels, **labels})

    def _histogram(self, what: str, about: str) -> _Histogram:
        name = f"trtnet_session_{what}_seconds"
        bounds = (*map(str, SECONDS), "+Inf")
        return _Histogram(
            [self._metric(f"{name}_bucket", about, le=bound) for bound in bounds],
            self._metric(f"{name}_sum", about),
            self._metric(f"{name}_count", about),
        )


class _Histogram:
    """Counters that together are a histogram: each bucket counts all below its bound."""

    def __init__(self, buckets: list[Any], total: Any, count: Any) -> None:
        self._buckets, self._total, self._count = buckets, total, count

    def observe(self, seconds: float) -> None:
        for bucket in self._buckets[bisect_left(SECONDS, seconds) :]:
            bucket.increment(1)
        self._total.increment(seconds)
        self._count.increment(1)
