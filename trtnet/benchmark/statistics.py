"""trtexec's performance summary, by trtexec's formulas.

The formulas are those of ``samples/common/sampleReporting.cpp`` of TensorRT's open-source
repository. trtexec adds up in single precision, this module in double.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trtnet.benchmark.trace import Trace
from trtnet.errors import UsageError

# trtexec's thresholds
_ENQUEUE_BOUND = 0.8  # of the median execution
_UNSTABLE = 1.0  # percent: standard deviation over mean

ENQUEUE = "enqueue"
_BOUND = "Throughput may be bound by {} rather than GPU Compute and the GPU may be under-utilized."
_ENQUEUE_WARNING = f"{_BOUND.format('Enqueue Time')} If not in use already, try --useCudaGraph."
_TRANSFER_WARNINGS = {
    name: f"{_BOUND.format(transfers)} --noDataTransfers measures without them."
    for name, transfers in (
        ("h2d", "host-to-device transfers for the inputs"),
        ("d2h", "device-to-host transfers for the outputs"),
    )
}
_UNSTABLE_WARNING = "Compute time is unstable, with coefficient of variance = {:.4g}%."
_UNSTABLE_ADVICE = " Locking the GPU's clocks (nvidia-smi --lock-gpu-clocks) may help."

Interval = tuple[float, float]


@dataclass(frozen=True)
class Distribution:
    """Of one kind of time, in milliseconds.

    Attributes:
        variation: standard deviation (of the population) over mean, in percent; infinite where
            the mean is zero.
    """

    min: float
    max: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float
    variation: float


@dataclass(frozen=True)
class Summary:
    """What trtexec prints below "Performance summary", and how sure the median is.

    Attributes:
        queries: executions measured.
        throughput: queries per second of `walltime_s`.
        latency: h2d + compute + d2h of a query.
        median_interval: holds the true median of `compute` with a probability of 95 %; see
            :func:`median_interval`.
        walltime_s: from the start of the first query's copy to the end of the last one's.
        compute_s: the sum of all executions.
    """

    queries: int
    throughput: float
    latency: Distribution
    enqueue: Distribution
    h2d: Distribution
    compute: Distribution
    d2h: Distribution
    median_interval: Interval | None
    walltime_s: float
    compute_s: float

    def warnings(self, *, asynchronous: bool = True) -> list[str]:
        """trtexec's, under its conditions; the advice is ours.

        Args:
            asynchronous: whether executions go on behind the host's call, as on a GPU. On a CPU
                the call is the execution, and says nothing about what bounds the throughput.
        """
        bounds = {ENQUEUE: _ENQUEUE_WARNING, **_TRANSFER_WARNINGS}
        found = [bounds[bound] for bound in self.bounds(asynchronous=asynchronous)]
        if self.compute.variation > _UNSTABLE:
            advice = _UNSTABLE_ADVICE if asynchronous else ""
            found.append(_UNSTABLE_WARNING.format(self.compute.variation) + advice)
        return found

    def bounds(self, *, asynchronous: bool = True) -> list[str]:
        """What may bound the throughput rather than the execution: ``"enqueue"``, ``"h2d"``,
        ``"d2h"``."""
        compute, found = self.compute.median, []
        if asynchronous and self.enqueue.median > _ENQUEUE_BOUND * compute:
            found.append(ENQUEUE)
        found += [name for name in _TRANSFER_WARNINGS if getattr(self, name).median >= compute]
        return found


def summarize(trace: Trace) -> Summary:
    """The summary of all queries of `trace`; see :func:`trtnet.benchmark.trace.without_warm_up`.

    Raises:
        UsageError: an empty trace.
    """
    if not trace:
        raise UsageError("an empty trace has no statistics", fix="measure at least one query")
    compute = [query.compute for query in trace]
    walltime_ms = trace[-1].d2h_end - trace[0].h2d_start
    distribution = describe(compute)
    return Summary(
        queries=len(trace),
        throughput=len(trace) / walltime_ms * 1000 if walltime_ms else math.inf,
        latency=describe([query.latency for query in trace]),
        enqueue=describe([query.enqueue for query in trace]),
        h2d=describe([query.h2d for query in trace]),
        compute=distribution,
        d2h=describe([query.d2h for query in trace]),
        median_interval=median_interval(compute),
        walltime_s=walltime_ms / 1000,
        compute_s=distribution.mean * len(trace) / 1000,
    )


def describe(times: Sequence[float]) -> Distribution:
    """
    >>> describe([4.0, 1.0, 2.0, 3.0]).median
    2.5
    """
    ordered = sorted(times)
    count = len(ordered)
    mean = math.fsum(ordered) / count
    variance = math.fsum((time - mean) ** 2 for time in ordered) / count
    return Distribution(
        min=ordered[0],
        max=ordered[-1],
        mean=mean,
        median=(ordered[(count - 1) // 2] + ordered[count // 2]) / 2,
        p90=percentile(ordered, 90),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        variation=math.sqrt(variance) / mean * 100 if mean else math.inf,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The largest time that is left once the slowest queries, their number rounded down, are out.

    Like trtexec this reckons in single precision, which decides the number: of 100 queries the
    99th percentile leaves out none (0.99999905 rounded down), the 90th leaves out ten.

    >>> percentile(range(1, 101), 90), percentile(range(1, 101), 99)
    (90, 100)
    """
    one, hundred = np.float32(1), np.float32(100)
    left_out = int((one - np.float32(percent) / hundred) * np.float32(len(ordered)))
    return ordered[max(len(ordered) - 1 - left_out, 0)]


def median_interval(times: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Two of the times between which the true median lies, with at least this probability.

    They are order statistics: how many of n independent times fall below the median is binomial,
    whatever their distribution. ``None`` where there are too few, below six for 95 %. Slow drifts,
    such as a falling clock, are not in it: only another run shows them.
    """
    count, ordered = len(times), sorted(times)
    rank = _lower_rank(count, (1 - confidence) / 2)
    return (ordered[rank - 1], ordered[count - rank]) if rank else None


def _lower_rank(count: int, tail: float) -> int:
    """The largest k for which the probability of fewer than k in `count` coin tosses is at most
    `tail`."""
    first = max(0, int(count / 2 - 6 * math.sqrt(count)))  # twelve deviations down: below 1e-32
    below, rank = 0.0, first
    while rank <= count // 2:
        logarithm = (
            math.lgamma(count + 1)
            - math.lgamma(rank + 1)
            - math.lgamma(count - rank + 1)
            - count * math.log(2)
        )
        below += math.exp(logarithm)
        if below > tail:
            break
        rank += 1
    return rank
