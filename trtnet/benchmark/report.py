"""Measurements as JSON values and as trtexec's text lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from trtnet.benchmark.profile import LayerTime, by_module
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
"""trtexec's names of the times of a :class:`Summary`; it puts "GPU" before the compute time."""


def summary_json(summary: Summary) -> dict[str, Any]:
    """`summary` as JSON values: times in milliseconds, infinite values as ``None``."""
    return {
        "queries": summary.queries,
        "throughput": json_number(summary.throughput),
        **{kind: _distribution(getattr(summary, kind)) for kind in KINDS},
        "median_interval": None if summary.median_interval is None else [*summary.median_interval],
        "walltime_s": summary.walltime_s,
        "compute_s": summary.compute_s,
    }


def roofline_json(found: Roofline | None) -> dict[str, Any] | None:
    """`found` as JSON values: times in milliseconds, an infinite share as ``None``."""
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
    """`layers` as JSON values: times in milliseconds."""
    return [
        {**dataclasses.asdict(layer), "members": [*layer.members], "modules": [*layer.modules]}
        for layer in layers
    ]


def modules_json(layers: Sequence[LayerTime]) -> list[dict[str, Any]]:
    """:func:`trtnet.benchmark.by_module` of every depth as JSON values."""
    deepest = max((path.count(".") + 1 for x in layers for path in x.modules[:1]), default=0)
    return [
        {"depth": depth, "module": module, "time_s": milliseconds / 1e3}
        for depth in range(1, deepest + 1)
        for module, milliseconds in by_module(layers, depth).items()
    ]


def summary_lines(summary: Summary, batch: int, processor: str = "GPU") -> list[str]:
    """What is read first, and the lines of trtexec's summary around its table, whose rows
    :func:`rows` returns.

    Args:
        summary: the measurement.
        batch: items per query; above 1 the lines have the throughput of items too.
        processor: the name of the device: ``"GPU"`` or ``"CPU"``.
    """
    items = f", {summary.throughput * batch:.6g} items/s" if batch > 1 else ""
    compute, interval = summary.compute, ""
    if summary.median_interval is not None:
        low, high = summary.median_interval
        interval = f" ({low:.6g} to {high:.6g} ms with 95 % confidence)"
    return [
        f"{processor} Compute Time: median {compute.median:.6g} ms{interval}, "
        f"min {compute.min:.6g} ms",
        f"Throughput: {summary.throughput:.6g} qps{items}",
        f"Total Host Walltime: {summary.walltime_s:.6g} s, {summary.queries} queries",
        f"Total {processor} Compute Time: {summary.compute_s:.6g} s",
    ]


def rows(summary: Summary, processor: str = "GPU") -> list[list[str]]:
    """The rows of trtexec's table: kind of time, min, max, mean, median, and percentiles in ms."""
    names = ("min", "max", "mean", "median", "p90", "p95", "p99")
    found = []
    for kind, title in KINDS.items():
        times = getattr(summary, kind)
        title = f"{processor} {title}" if kind == "compute" else title
        found.append([title, *(f"{getattr(times, name):.6g}" for name in names)])
    return found


def roofline_line(found: Roofline, limited: str | None) -> str:
    """One line with the share of the bound, and what limits the throughput."""
    return (
        f"Roofline: {found.share:.1%} of the bound of {found.bound.gpu.name}, "
        f"{found.bound_ms:.4g} of {found.measured_ms:.4g} ms; limited by {limited}"
    )


def _distribution(times: Distribution) -> dict[str, float | None]:
    return {name: json_number(value) for name, value in dataclasses.asdict(times).items()}
