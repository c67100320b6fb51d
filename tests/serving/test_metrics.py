"""Sessions count their calls where somebody asks, and import nothing for it where nobody does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sources import run_python

import trtnet
from trtnet.errors import UsageError
from trtnet.serving.metrics import PrometheusMetrics

ROWS = np.zeros((3, 3, 8, 8), np.float32)


class Told:
    """What a session tells."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, float, float]] = []
        self.failed: list[str] = []

    def call_ended(self, rows: int, queue_s: float, latency_s: float) -> None:
        self.ended.append((rows, queue_s, latency_s))

    def call_failed(self, kind: str) -> None:
        self.failed.append(kind)


def test_calls_rows_and_failures(plan: Callable[..., trtnet.Plan]) -> None:
    told = Told()
    with trtnet.Session(plan(), device="cpu", metrics=told) as session:
        session(ROWS)
        assert len(list(session.map([ROWS[:1], ROWS[:2]]))) == 2
        for wrong in ({"images": ROWS}, {"input": ROWS.astype(np.float16)}):
            with pytest.raises(trtnet.ShapeError):
                session(wrong)
    assert [rows for rows, _, _ in told.ended] == [3, 1, 2]
    assert all(0 <= queue < latency < 60 for _, queue, latency in told.ended)
    assert told.failed == ["ShapeError", "ShapeError"]


def test_the_wait_for_a_context_is_the_queue(plan: Callable[..., trtnet.Plan]) -> None:
    told, taken = Told(), threading.Event()
    with trtnet.Session(plan(), device="cpu", contexts=1, metrics=told) as session:
        with session.lane():
            thread = threading.Thread(target=lambda: (taken.set(), session(ROWS)))
            thread.start()
            taken.wait()
            thread.join(1.0)
            assert thread.is_alive()
        thread.join()
    ((_, queue, latency),) = told.ended
    assert 0.2 < queue < latency


def test_the_registry_has_what_prometheus_reads(plan: Callable[..., trtnet.Plan]) -> None:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    metrics = PrometheusMetrics(registry, "one")
    with pytest.raises(UsageError, match="has metrics of sessions already"):
        PrometheusMetrics(registry, "two")
    for each in (metrics, metrics.named("two")):
        with trtnet.Session(plan(), device="cpu", metrics=each) as session:
            session(ROWS)
            with pytest.raises(trtnet.ShapeError):
                session(ROWS[:, :1])

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"trtnet_session_{name}", labels)

    for name in ("one", "two"):
        assert value("calls_total", session=name) == 1
        assert value("rows_total", session=name) == 3
        assert value("failures_total", session=name, kind="ShapeError") == 1
        for what in ("queue", "latency"):
            assert value(f"{what}_seconds_count", session=name) == 1
            assert value(f"{what}_seconds_bucket", session=name, le="+Inf") == 1
    text = client.generate_latest(registry).decode()
    assert 'trtnet_session_latency_seconds_bucket{le="0.001",session="one"}' in text


def test_nothing_is_imported_where_nobody_asks(tmp_path: Path) -> None:
    code = (
        "import sys, trtnet.serving.triton, trtnet.engines.session, trtnet.serving.metrics\n"
        "print([n for n in sys.modules if n.startswith('prometheus')])"
    )
    assert (
        run_python("-c", code, cwd=tmp_path, path=Path(trtnet.__file__).parents[1]).strip() == "[]"
    )


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"(?s)prometheus_client.*\[serve\]"):
        PrometheusMetrics(None, "one")  # type: ignore[arg-type]
