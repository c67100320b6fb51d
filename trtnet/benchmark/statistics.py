"""trtexec's performance summary, computed by trtexec's formulas.

The formulas are in ``samples/common/sampleReporting.cpp`` of TensorRT's open-source repository.
trtexec sums in single precision, this module in double.
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
"""Lower and upper end, in milliseconds."""


@dataclass(frozen=True)
class Distribution:
    """The distribution of one kind of time over all queries, in milliseconds.

    Attributes:
        min, max, mean, median: as usual.
        p90, p95, p99: percentiles; see :func:`percentile`.
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
    """trtexec's "Performance summary", with a confidence interval of the median.

    Attributes:
        queries: number of measured executions.
        throughput: queries per second of `walltime_s`.
        latency: h2d + compute + d2h of a query.
        enqueue: the host's call that enqueues the execution.
        h2d, d2h: the copy of the inputs to the device, and of the outputs to the host.
        compute: the execution on the device.
        median_interval: 95 % confidence interval of the median of `compute`; see
            :func:`median_interval`.
        walltime_s: seconds from the start of the first query's copy to the end of the last one's.
        compute_s: seconds of all executions together.
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
        """trtexec's warnings, under its conditions, each with advice.

        Args:
            asynchronous: whether the host's call returns before the execution ends, as on a GPU.
                On a CPU the call is the execution, so that the enqueue time bounds nothing.
        """
        noise = self.noise_warning(asynchronous=asynchronous)
        found = self.bound_warnings(asynchronous=asynchronous)
        return found if noise is None else [*found, noise]

    def bound_warnings(self, *, asynchronous: bool = True) -> list[str]:
        """Those of :meth:`warnings` about what else than the execution may bound the throughput."""
        bounds = {ENQUEUE: _ENQUEUE_WARNING, **_TRANSFER_WARNINGS}
        return [bounds[bound] for bound in self.bounds(asynchronous=asynchronous)]

    def noise_warning(self, *, asynchronous: bool = True) -> str | None:
        """The one of :meth:`warnings` about times that vary; ``None`` where they vary little."""
        if self.compute.variation <= _UNSTABLE:
            return None
        advice = _UNSTABLE_ADVICE if asynchronous else ""
        return _UNSTABLE_WARNING.format(self.compute.variation) + advice

    @property
    def median_is_uncertain(self) -> bool:
        """Whether the noise matters for the median of `compute`: its confidence interval is wider
        than a percent of it, or there is none."""
        if self.median_interval is None:
            return True
        low, high = self.median_interval
        return high - low > _UNSTABLE / 100 * self.compute.median

    def bounds(self, *, asynchronous: bool = True) -> list[str]:
        """What else than the execution may bound the throughput: ``"enqueue"``, ``"h2d"``,
        ``"d2h"``; see :meth:`warnings`."""
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
        raise UsageError(
            "an empty trace has no statistics",
            expected="at least one query",
            got="none",
            fix="measure longer",
        )
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
    """The distribution of `times`, at least one, in milliseconds.

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
    """The largest of the `ordered` times without the slowest ``100 - percent`` percent.

    The number of times left out is rounded down, and computed in single precision as in trtexec,
    which matters: of 100 queries the 99th percentile leaves out none (0.99999905 rounded down),
    the 90th leaves out ten.

    Args:
        ordered: times in ascending order, at least one.
        percent: 0 to 100.

    >>> percentile(range(1, 101), 90), percentile(range(1, 101), 99)
    (90, 100)
    """
    one, hundred = np.float32(1), np.float32(100)
    left_out = int((one - np.float32(percent) / hundred) * np.float32(len(ordered)))
    return ordered[max(len(ordered) - 1 - left_out, 0)]


def median_interval(times: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """A confidence interval of the median, whose ends are two of the times.

    The ends are order statistics: the number of independent times below the median is binomial for
    any distribution. The interval does not cover slow drifts, such as a falling clock rate: only
    another run shows these.

    Args:
        times: independent measurements, in any order.
        confidence: least probability that the interval contains the true median.

    Returns:
        The interval, or ``None`` for too few times: fewer than six for 95 %.
    """
    count, ordered = len(times), sorted(times)
    rank = _lower_rank(count, (1 - confidence) / 2)
    return (ordered[rank - 1], ordered[count - rank]) if rank else None


def _lower_rank(count: int, tail: float) -> int:
    """The largest k for which fewer than k heads in `count` coin tosses have a probability of at
    most `tail`; 0 where there is none."""
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
