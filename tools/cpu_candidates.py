"""Ways to run a model on a CPU, timed in turns in one process: for ``tools/bench_cpu.py``."""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import torch

import trtnet

OPSET = 18
WARM_UP = 3
Interval = tuple[float, float]


@dataclass
class Candidate:
    """One way to run a model.

    Attributes:
        call: gives the first output.
        setup_s: seconds until it could be called.
        times: seconds of each round.
    """

    name: str
    call: Callable[[], np.ndarray]
    setup_s: float
    times: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """The median of the rounds, in milliseconds."""
        return 1e3 * statistics.median(self.times)

    def ratio(self, ours: Candidate) -> tuple[float, Interval]:
        """The median over the rounds of its time by that of `ours`, and the 95 % interval of that
        median: the binomial distribution's normal approximation."""
        ratios = sorted(a / b for a, b in zip(self.times, ours.times, strict=True))
        half = 1.96 * math.sqrt(len(ratios)) / 2
        low = max(math.floor(len(ratios) / 2 - half), 0)
        high = min(math.ceil(len(ratios) / 2 + half), len(ratios) - 1)
        return statistics.median(ratios), (ratios[low], ratios[high])


def take_turns(candidates: Sequence[Candidate], repeats: int) -> None:
    """Calls all candidates, one after the other, `repeats` times, after a few that do not count."""
    for candidate in candidates:
        for _ in range(WARM_UP):
            candidate.call()
    for _ in range(repeats):
        for candidate in candidates:
            start = time.perf_counter()
            candidate.call()
            candidate.times.append(time.perf_counter() - start)


def session(plan: trtnet.Plan, title: str, x: np.ndarray, runtime: str) -> Candidate:
    """A session on a CPU; its name is `title` and the runtime."""
    start = time.perf_counter()
    opened = trtnet.Session(plan, device="cpu", runtime=runtime)
    name = f"{title} ({opened.runtime.partition(',')[0]})"
    return Candidate(name, partial(_of_session, opened, x), time.perf_counter() - start)


def _of_session(opened: trtnet.Session, x: np.ndarray) -> np.ndarray:
    value: np.ndarray = next(iter(opened(x).values()))
    return value


def by_onnxruntime(
    model: torch.nn.Module, x: np.ndarray, threads: int
) -> Callable[[], list[np.ndarray]]:
    """`model`, as torch.onnx.export writes it, on `x`; threads that wait do not spin."""
    written = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)  # it has no ONNX operator
    target: Any = written  # also for files in memory, says its documentation
    torch.onnx.export(model, (torch.from_numpy(x),), target, dynamo=False, opset_version=OPSET)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    opened = onnxruntime.InferenceSession(written.getvalue(), options)
    given = {opened.get_inputs()[0].name: x}
    return lambda: opened.run(None, given)
