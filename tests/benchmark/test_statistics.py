"""The summary against trtexec's formulas, written down once more, on recorded traces.

The oracle follows samples/common/sampleReporting.cpp of https://github.com/NVIDIA/TensorRT; the
name of the C++ function is beside each formula. It is plain Python and shares nothing with trtnet
but the files of times.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from trtnet.benchmark import (
    Query,
    Summary,
    describe,
    from_json,
    median_interval,
    percentile,
    summarize,
    to_json,
    without_warm_up,
)

TRACES = sorted((Path(__file__).parents[1] / "data" / "traces").glob("*.json"))
TOLERANCE = 1e-6


def single(value: float) -> float:
    """Rounded to single precision, in which trtexec reckons."""
    return struct.unpack("f", struct.pack("f", value))[0]


def oracle_percentile(times: list[float], percent: float) -> float:
    """findPercentile: `exclude = (1 - percentile / 100) * all`, floats cut to an integer, then
    `timings[max(all - 1 - exclude, 0)]` of the sorted times."""
    exclude = int(single(single(1 - single(percent / 100)) * len(times)))
    return sorted(times)[max(len(times) - 1 - exclude, 0)]


def oracle_median(times: list[float]) -> float:
    """findMedian: the middle one, or the mean of the two in the middle."""
    ordered, middle = sorted(times), len(times) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def oracle_variation(times: list[float]) -> float:
    """findCoeffOfVariance: sqrt(sum((t - mean)^2) / n) / mean * 100, infinite for a zero mean."""
    mean = sum(times) / len(times)
    if mean == 0:
        return math.inf
    return math.sqrt(sum((time - mean) ** 2 for time in times) / len(times)) / mean * 100


def oracle(path: Path) -> dict[str, dict[str, float]]:
    """getPerformanceResult for each metric of traceToTiming."""
    entries = json.loads(path.read_text())
    parts = {"enqueue": "Enq", "h2d": "H2d", "compute": "Compute", "d2h": "D2h"}
    times = {
        kind: [entry[f"end{key}Ms"] - entry[f"start{key}Ms"] for entry in entries]
        for kind, key in parts.items()
    }
    times["latency"] = [
        sum(three) for three in zip(times["h2d"], times["compute"], times["d2h"], strict=True)
    ]
    return {
        kind: {
            "min": min(values),
            "max": max(values),
            "mean": sum(values) / len(values),
            "median": oracle_median(values),
            "p90": oracle_percentile(values, 90),
            "p95": oracle_percentile(values, 95),
            "p99": oracle_percentile(values, 99),
            "variation": oracle_variation(values),
        }
        for kind, values in times.items()
    }


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_recorded_traces(path: Path) -> None:
    summary = summarize(from_json(path.read_text()))
    for kind, expected in oracle(path).items():
        got = vars(getattr(summary, kind))
        assert got == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), kind
    entries = json.loads(path.read_text())
    # printPerformanceReport: benchTime = trace.back().d2hEnd - noWarmup->h2dStart;
    # printEpilog: throughput = timings.size() / walltimeMs * 1000, total = mean * size / 1000
    walltime = entries[-1]["endD2hMs"] - entries[0]["startH2dMs"]
    total = sum(entry["endComputeMs"] - entry["startComputeMs"] for entry in entries)
    assert summary.queries == len(entries)
    assert summary.throughput == pytest.approx(len(entries) / walltime * 1000, rel=TOLERANCE)
    assert summary.walltime_s == pytest.approx(walltime / 1000, rel=TOLERANCE)
    assert summary.compute_s == pytest.approx(total / 1000, rel=TOLERANCE)


def test_the_traces_cover_what_matters() -> None:
    sizes = [len(json.loads(path.read_text())) for path in TRACES]
    assert {size % 2 for size in sizes} == {0, 1}
    assert min(sizes) <= 10
    assert 100 in sizes  # where single precision decides the 99th percentile
    assert max(sizes) >= 400
    worst = max(summarize(from_json(path.read_text())).compute.variation for path in TRACES)
    assert worst > 10  # percent: with outliers


def make(*rows: tuple[float, float, float, float]) -> list[Query]:
    """Queries back to back, out of (enqueue, h2d, compute, d2h) in milliseconds."""
    found, now = [], 5.0
    for enqueue, h2d, compute, d2h in rows:
        a, b, c = now + h2d, now + h2d + compute, now + h2d + compute + d2h
        found.append(Query(0, now, now + enqueue, now, a, a, b, b, c))
        now = c
    return found


def test_four_queries_by_hand() -> None:
    summary = summarize(make((0.5, 1, 4, 1), (0.25, 1, 2, 1), (0.25, 2, 6, 1), (0.5, 1, 8, 4)))
    # Latencies 6, 4, 9, 13; execution 4, 2, 6, 8; 32 ms in all
    assert summary.throughput == pytest.approx(125)
    assert summary.walltime_s == pytest.approx(0.032)
    assert summary.compute_s == pytest.approx(0.020)
    latency = summary.latency
    assert (latency.min, latency.max) == pytest.approx((4, 13))
    assert (latency.mean, latency.median) == pytest.approx((8, 7.5))
    # A tenth of four queries is none: every percentile is the slowest
    assert (latency.p90, latency.p95, latency.p99) == pytest.approx((13, 13, 13))
    compute = summary.compute
    # mean 5; squares 1 + 9 + 1 + 9 = 20, over 4 is 5; sqrt(5) / 5
    assert compute.variation == pytest.approx(44.721359549995796)
    assert (summary.enqueue.mean, summary.enqueue.median) == pytest.approx((0.375, 0.375))
    assert (summary.h2d.median, summary.d2h.median) == pytest.approx((1, 1))
    assert summary.median_interval is None


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        (1, 90, 1),
        (9, 90, 9),
        (10, 90, 9),  # double precision would leave out none: (1 - 0.9) * 10 < 1
        (20, 95, 19),
        (100, 99, 100),  # and here one: (1 - 0.99) * 100 > 1
        (1000, 99, 991),
        (7, 0, 1),
        (7, 100, 7),
    ],
)
def test_percentiles_leave_out_whole_queries(count: int, percent: float, expected: int) -> None:
    times = list(range(1, count + 1))
    assert percentile(times, percent) == expected
    assert oracle_percentile([float(time) for time in times], percent) == expected


def test_percentiles_of_every_length_follow_the_formula() -> None:
    times = [float(time) for time in range(1200)]
    for count in range(1, 1200):
        for percent in (90, 95, 99):
            assert percentile(times[:count], percent) == oracle_percentile(times[:count], percent)


def test_zero_times_vary_infinitely_as_in_trtexec() -> None:
    assert describe([0.0, 0.0]).variation == math.inf
    assert describe([2.0, 2.0]).variation == 0


def summary_of(
    enqueue: float = 0.1, h2d: float = 0.1, compute: float = 1.0, d2h: float = 0.1
) -> Summary:
    return summarize(make(*[(enqueue, h2d, compute, d2h)] * 8))


@pytest.mark.parametrize(
    ("times", "bounds"),
    [
        ({}, []),
        ({"enqueue": 0.7}, []),
        ({"enqueue": 0.9}, ["enqueue"]),  # more than 0.8 of the execution
        ({"h2d": 0.9}, []),
        ({"h2d": 1.1}, ["h2d"]),
        ({"d2h": 1.1}, ["d2h"]),
        ({"enqueue": 2.0, "h2d": 2.0, "d2h": 2.0}, ["enqueue", "h2d", "d2h"]),
    ],
)
def test_bounds_under_trtexecs_conditions(times: dict[str, float], bounds: list[str]) -> None:
    summary = summary_of(**times)
    assert summary.bounds() == bounds
    warnings = summary.warnings()
    assert len(warnings) == len(bounds)
    words = {"enqueue": "Enqueue Time", "h2d": "host-to-device", "d2h": "device-to-host"}
    for name, warning in zip(bounds, warnings, strict=True):
        assert words[name] in warning
    assert summary.bounds(asynchronous=False) == [name for name in bounds if name != "enqueue"]


@pytest.mark.parametrize(("slow", "unstable"), [(1.02, False), (1.05, True)])
def test_unstable_above_one_percent(slow: float, unstable: bool) -> None:
    times = [(0.1, 0.1, compute, 0.1) for compute in [1.0] * 9 + [slow]]
    # One of ten slower by s: the deviation is 0.3 s of a mean of 1 + s / 10
    summary = summarize(make(*times))
    assert summary.compute.variation == pytest.approx(
        100 * 0.3 * (slow - 1) / (1 + (slow - 1) / 10)
    )
    assert any("coefficient of variance" in text for text in summary.warnings()) is unstable


@pytest.mark.parametrize(
    ("compute", "matters"),
    [
        ([1.0] * 99 + [9.0], False),  # one outlier leaves the median where it is
        ([1.0, 1.05] * 50, True),
        ([1.0, 1.0, 1.0, 9.0], True),  # too few for an interval
    ],
)
def test_noise_matters_where_the_median_is_uncertain(compute: list[float], matters: bool) -> None:
    summary = summarize(make(*[(0.1, 0.1, time, 0.1) for time in compute]))
    assert summary.median_is_uncertain is matters
    warning = summary.noise_warning(asynchronous=False)
    assert warning is not None
    assert warning.startswith("Compute time is unstable, with coefficient of variance = ")
    assert summary.warnings(asynchronous=False) == [warning]


def test_interval_is_made_of_the_binomial_order_statistics() -> None:
    stats = pytest.importorskip("scipy.stats")
    for count in (6, 7, 8, 25, 100, 1001, 20_000):
        low, high = median_interval(range(1, count + 1)) or (0, 0)
        assert low == stats.binom.ppf(0.025, count, 0.5)
        assert high == count + 1 - low
    assert median_interval(range(5)) is None


def test_interval_holds_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        low, high = median_interval(random.exponential(size=60)) or (1, 0)
        hits += low <= math.log(2) <= high
    assert 0.94 <= hits / 1000 <= 0.99  # ranks 22 and 39 of 60: 0.948 at least


def test_warm_up_ends_with_the_first_execution_behind_it() -> None:
    trace = make(*[(0.1, 1, 10, 1)] * 5)  # executions begin at 6, 18, 30, 42, 54 ms
    assert without_warm_up(trace, 30) == trace[2:]
    assert without_warm_up(trace, 0) == trace


def test_no_query_is_an_error(raises) -> None:  # type: ignore[no-untyped-def]
    from trtnet import UsageError

    with raises(UsageError, "empty trace"):
        summarize([])
    with raises(UsageError, "no query was measured", "200 ms", "5 queries"):
        without_warm_up(make(*[(0.1, 1, 1, 1)] * 5), 200)


def test_export_has_trtexecs_keys_and_comes_back() -> None:
    trace = make((0.5, 1, 4, 2), (0.25, 1, 2, 1))
    written = to_json(trace)
    assert set(written[0]) == {
        *("startEnqMs", "endEnqMs", "startH2dMs", "endH2dMs", "startComputeMs", "endComputeMs"),
        *("startD2hMs", "endD2hMs", "h2dMs", "computeMs", "d2hMs", "latencyMs"),
    }
    assert written[0]["latencyMs"] == pytest.approx(7)
    assert from_json(json.dumps(written)) == trace


@pytest.mark.parametrize(
    "text", ["", "{}x", '[{"startEnqMs": 1}]', "[1]", '[{"a": "b"}]', "3", "[" * 9999]
)
def test_something_else_is_no_trace(text: str, raises) -> None:  # type: ignore[no-untyped-def]
    from trtnet import UsageError

    with raises(UsageError, "cannot be used as a timing trace", "--exportTimes"):
        from_json(text)
