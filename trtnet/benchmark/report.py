"""A measurement as JSON values and as trtexec's lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from trtnet.benchmark.profile import LayerTime
from trtnet.benchmark.roofline import Roofline
from trtnet.benchmark.statistics import Distribution, Summary
from trtnet.finite import json_number

KINDS = {
    "latency": "Latency",
    "enqueue": "Enqueue Time",
    "h2d": "H2D Latency",
    "compute": "Compute Time",
    "d2h": "D2H Latency",
}
"""The times of a :class:`Summary`, and what trtexec calls them; it says "GPU" of the execution."""


def summary_json(summary: Summary) -> dict[str, Any]:
    """Times in milliseconds; what is infinite is ``None``."""
    return {
        "queries": summary.queries,
        "throughput": json_number(summary.throughput),
        **{kind: _distribution(getattr(summary, kind)) for kind in KINDS},
        "median_interval": None if summary.median_interval is None else [*summary.median_interval],
        "walltime_s": summary.walltime_s,
        "compute_s": summary.compute_s,
    }


def roofline_json(found: Roofline | None) -> dict[str, Any] | None:
    if found is None:
        return None
    gpu = found.bound.gpu
    return {
        "gpu": gpu.key,
        "bound_ms": found.bound_ms,
        "measured_ms": found.measured_ms,
        "share": json_number(found.share),
        "limit": found.limit,
        "source": gpu.source,
    }


def layers_json(layers: Sequence[LayerTime]) -> list[dict[str, Any]]:
    return [
        {**dataclasses.asdict(layer), "members": [*layer.members], "modules": [*layer.modules]}
        for layer in layers
    ]


def summary_lines(summary: Summary, batch: int, processor: str = "GPU") -> list[str]:
    """trtexec's summary without its table, which :func:`rows` gives.

    Args:
        batch: items per query, to say their throughput too.
        processor: what executes.
    """
    items = f", {summary.throughput * batch:.6g} items/s" if batch > 1 else ""
    lines = [
        f"Throughput: {summary.throughput:.6g} qps{items}",
        f"Total Host Walltime: {summary.walltime_s:.6g} s, {summary.queries} queries",
        f"Total {processor} Compute Time: {summary.compute_s:.6g} s",
    ]
    if summary.median_interval is not None:
        low, high = summary.median_interval
        interval = f"{low:.6g} to {high:.6g} ms with 95 % confidence"
        lines.append(f"{processor} Compute Time, median: {interval}")
    return lines


def rows(summary: Summary, processor: str = "GPU") -> list[list[str]]:
    """Of trtexec's table: the kind of time, then min, max, mean, median and percentiles in ms."""
    names = ("min", "max", "mean", "median", "p90", "p95", "p99")
    found = []
    for kind, title in KINDS.items():
        times = getattr(summary, kind)
        title = f"{processor} {title}" if kind == "compute" else title
        found.append([title, *(f"{getattr(times, name):.6g}" for name in names)])
    return found


def roofline_line(found: Roofline, limited: str | None) -> str:
    """The share of the bound, and the limiting term."""
    return (
        f"Roofline: {found.share:.1%} of the bound of {found.bound.gpu.name}, "
        f"{found.bound_ms:.4g} of {found.measured_ms:.4g} ms; limited by {limited}"
    )


def _distribution(times: Distribution) -> dict[str, float | None]:
    return {name: json_number(value) for name, value in dataclasses.asdict(times).items()}
