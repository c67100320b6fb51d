"""Times candidates that take turns in one process: paired ratios, GPU memory, the host's share.

On a GPU times are those between CUDA events on the candidate's own stream; short executions are
repeated until a sample takes a millisecond. In each round every candidate is timed once, in an
order drawn anew, so that a drifting clock rate slows all of them, and a ratio is one of two times
of the same round.
"""

from __future__ import annotations

import gc
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trtnet.benchmark import median_interval

LEAST_ROUNDS = 6  # fewer have no 95 % interval
LEAST_MS = 1.0  # of a sample
MOST_REPEATS = 100
WARM_UP = 3
_MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """What a candidate took of the GPU, in MiB, beyond what was taken before it was made.

    Attributes:
        peak: the most that PyTorch's allocator held at a time while the candidate was made and
            first run, and what others (libraries, trtnet's own buffers) took from the device.
        held: what is taken from the device once it is ready, pools of CUDA graphs included.
        tensors: the most bytes of PyTorch's tensors at a time.
    """

    peak: float
    held: float
    tensors: float


@dataclass
class Candidate:
    """One way to run a model.

    Attributes:
        call: enqueues an execution on `stream`; on a CPU (`stream` is ``None``) executes.
        setup_s: seconds until it could be called, its first executions included.
        keep: what must live as long as `call`.
        times: milliseconds of each round.
    """

    name: str
    call: Callable[[], object]
    stream: torch.cuda.Stream | None
    setup_s: float
    memory: Memory | None = None
    keep: Any = None
    times: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.times)


@dataclass(frozen=True)
class Ratio:
    """The median of ratios of two times of one round, and its 95 % interval."""

    median: float
    low: float
    high: float
    rounds: int


def paired_ratio(peer: Sequence[float], own: Sequence[float]) -> Ratio:
    """How many times as long `peer` takes as `own`, round by round.

    The interval's ends are two of the ratios, by the sign test's order statistics.

    Raises:
        ValueError: times of different rounds, or fewer than :data:`LEAST_ROUNDS`.
    """
    ratios = [a / b for a, b in zip(peer, own, strict=True)]
    interval = median_interval(ratios)
    if interval is None:
        raise ValueError(f"{len(ratios)} rounds are too few: at least {LEAST_ROUNDS}")
    return Ratio(statistics.median(ratios), *interval, len(ratios))


def ratio_in_words(ratio: Ratio) -> str:
    """Such as ``"1.26 [1.25, 1.27]"``."""
    return f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def interleave(
    candidates: Sequence[Candidate], rounds: int, seconds: float = math.inf, seed: int = 0
) -> None:
    """Adds the times of each round to all candidates. Fewer rounds are made where they take more
    than so many seconds, but at least :data:`LEAST_ROUNDS`."""
    order = np.random.default_rng(seed)
    repeats = [repeats_for(candidate) for candidate in candidates]
    started = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - started > seconds:
            break
        for index in order.permutation(len(candidates)):
            candidate = candidates[index]
            candidate.times.append(milliseconds(candidate, repeats[index]))


def repeats_for(candidate: Candidate) -> int:
    """How many executions one sample needs; they warm up as well."""
    fastest = min(milliseconds(candidate, 1) for _ in range(WARM_UP))
    return min(max(math.ceil(LEAST_MS / max(fastest, 1e-6)), 1), MOST_REPEATS)


def milliseconds(candidate: Candidate, repeats: int) -> float:
    """Mean milliseconds of so many executions, one after the other."""
    call, stream = candidate.call, candidate.stream
    if stream is None:
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        return 1e3 * (time.perf_counter() - started) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record(stream)
    for _ in range(repeats):
        call()
    end.record(stream)
    end.synchronize()
    return float(start.elapsed_time(end)) / repeats


def host_us(call: Callable[[], object], bursts: int = 20, calls: int = 10) -> float:
    """Median microseconds until `call` returns, in bursts after which the GPU is waited for; the
    first call of a burst does not count."""
    times = []
    for _ in range(bursts):
        torch.cuda.synchronize()
        for index in range(calls):
            started = time.perf_counter()
            call()
            if index:
                times.append(time.perf_counter() - started)
    torch.cuda.synchronize()
    return 1e6 * statistics.median(times[len(times) // 10 :])


@contextmanager
def metered(found: list[Memory]) -> Iterator[None]:
    """Appends what is taken of the GPU inside to `found`; nothing on a machine without a GPU. No
    other process may use the GPU meanwhile."""
    if not torch.cuda.is_available():
        yield
        return
    _settle()
    torch.cuda.reset_peak_memory_stats()
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    free = torch.cuda.mem_get_info()[0]
    yield
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_reserved() - reserved
    tensors = torch.cuda.max_memory_allocated() - allocated
    _settle()
    held = free - torch.cuda.mem_get_info()[0]
    others = held - (torch.cuda.memory_reserved() - reserved)
    found.append(Memory((peak + max(others, 0)) / _MIB, held / _MIB, tensors / _MIB))


def _settle() -> None:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def recorded(call: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
    """`call` recorded into one CUDA graph, after three executions.

    Returns:
        what launches the graph on the current stream, and what `call` returned while it was
        recorded: each launch writes the results there.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        results = call()
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay, results


def in_new_thread(call: Callable[[], Any]) -> Any:
    """What `call` returns in a thread of its own, in inference mode. PyTorch keeps the kernels that
    cuDNN chose for the lifetime of the thread: another choice needs another thread."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with torch.inference_mode():
                results.append(call())
        except BaseException as error:  # is raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
