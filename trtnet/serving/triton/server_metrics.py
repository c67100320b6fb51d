"""The calls of a session among Triton's own metrics."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

# Upper bounds of the histogram in seconds. They are few, as each count is a message to the server
# (65 microseconds on a busy machine).
_BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class ServerMetrics:
    """Counts the calls of an exported engine; see :class:`trtnet.engines.metrics.SessionMetrics`.

    Counters with the labels `model` and `version`: ``trtnet_session_calls_total``, ``_rows_total``,
    ``_failures_total`` (with the class of the exception as `kind`), ``_latency_seconds_sum`` and
    ``_latency_seconds_bucket``, whose label `le` is that of Prometheus's histograms: Triton 2.51
    has no histograms for models. How long requests wait is among Triton's metrics in any case
    (``nv_inference_queue_duration_us``).

    Args:
        utils: Triton's ``triton_python_backend_utils``.
        model, version: values of the labels.
    """

    def __init__(self, utils: Any, model: str, version: str) -> None:
        self._utils, self._labels = utils, {"model": model, "version": version}
        self._families: dict[str, Any] = {}
        self._calls = self._metric("calls_total", "Calls that gave results.")
        self._rows = self._metric("rows_total", "Rows of their batches.")
        self._seconds = self._metric("latency_seconds_sum", "Whole calls.")
        self._buckets = [
            self._metric("latency_seconds_bucket", "Whole calls.", le=bound)
            for bound in (*map(str, _BOUNDS), "+Inf")
        ]
        self._failures: dict[str, Any] = {}

    def call_ended(self, rows: int, queue_s: float, latency_s: float) -> None:
        """See :class:`trtnet.engines.metrics.SessionMetrics`."""
        self._calls.increment(1)
        self._rows.increment(rows)
        self._seconds.increment(latency_s)
        for bucket in self._buckets[bisect_left(_BOUNDS, latency_s) :]:
            bucket.increment(1)

    def call_failed(self, kind: str) -> None:
        """See :class:`trtnet.engines.metrics.SessionMetrics`."""
        if kind not in self._failures:
            self._failures[kind] = self._metric(
                "failures_total", "Calls that raised an exception.", kind=kind
            )
        self._failures[kind].increment(1)

    def _metric(self, what: str, about: str, **labels: str) -> Any:
        name = f"trtnet_session_{what}"
        if name not in self._families:
            kind = self._utils.MetricFamily.COUNTER
            family = self._utils.MetricFamily(name=name, description=about, kind=kind)
            self._families[name] = family
        return self._families[name].Metric(labels={**self._labels, **labels})
