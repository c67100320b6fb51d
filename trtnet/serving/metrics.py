"""Sessions in the registry of ``prometheus_client``, which is not imported before it is asked for.

>>> import numpy, prometheus_client, trtnet
>>> registry = prometheus_client.CollectorRegistry()
>>> net = trtnet.Network(backend="torch")
>>> _ = net.output("y", net.input("x", ("N", 3)) * 2.0)
>>> plan = trtnet.build(net, {"x": trtnet.Shapes((1, 3), (1, 3), (8, 3))})
>>> metrics = PrometheusMetrics(registry, "double")
>>> with trtnet.Session(plan, device="cpu", metrics=metrics) as session:
...     _ = session(numpy.zeros((4, 3), "float32"))
>>> registry.get_sample_value("trtnet_session_rows_total", {"session": "double"})
4.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.errors import UsageError
from trtnet.extras import install

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# upper bounds of the histograms
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusMetrics:
    """Counts the calls of sessions; see :class:`trtnet.Session`.

    ``trtnet_session_calls_total`` and ``_rows_total`` count calls that gave results, and the rows
    of their batches; ``_failures_total`` those that raised an exception, by its class, as `kind`;
    ``_queue_seconds`` and ``_latency_seconds`` are histograms of the wait for an execution context
    and of the whole call. All have the label `session`.

    Args:
        registry: where they are: one of the user's own, or ``prometheus_client.REGISTRY``.
        session: the label's value. Several sessions of one name in one object are counted together.

    Raises:
        UsageError: ``prometheus_client`` is not installed, or the registry has these names already:
            :meth:`named` counts a further session there.
    """

    def __init__(self, registry: CollectorRegistry, session: str) -> None:
        try:
            from prometheus_client import Counter, Histogram
        except ImportError as error:
            raise UsageError(
                "metrics need prometheus_client", got=error, fix=install("serve")
            ) from error
        of = ("session",)
        try:
            self._families = (
                Counter("trtnet_session_calls", "Calls that gave results.", of, registry=registry),
                Counter("trtnet_session_rows", "Rows of their batches.", of, registry=registry),
                Counter("trtnet_session_failures", "Calls that raised an exception.",
                        (*of, "kind"), registry=registry),
                Histogram("trtnet_session_queue_seconds", "Waits for an execution context.", of,
                          registry=registry, buckets=_SECONDS),
                Histogram("trtnet_session_latency_seconds", "Whole calls.", of,
                          registry=registry, buckets=_SECONDS),
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(
                "the registry has metrics of sessions already",
                got=error,
                fix="PrometheusMetrics.named(session) counts a further session in them",
            ) from error
        self._label(session)

    def named(self, session: str) -> PrometheusMetrics:
        """Counts another session, in the same registry."""
        other = object.__new__(PrometheusMetrics)
        other._families = self._families
        other._label(session)
        return other

    def _label(self, session: str) -> None:
        calls, rows, failures, queue, latency = self._families
        self._session, self._failures = session, failures
        self._calls, self._rows = calls.labels(session), rows.labels(session)
        self._queue, self._latency = queue.labels(session), latency.labels(session)

    def call_ended(self, rows: int, queue_s: float, latency_s: float) -> None:
        """See :class:`trtnet.engines.metrics.SessionMetrics`."""
        self._calls.inc()
        self._rows.inc(rows)
        self._queue.observe(queue_s)
        self._latency.observe(latency_s)

    def call_failed(self, kind: str) -> None:
        """See :class:`trtnet.engines.metrics.SessionMetrics`."""
        self._failures.labels(self._session, kind).inc()
