"""Ways to run a model on a CPU, timed in turns in one process: for ``tools/bench_cpu.py``."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import paired_timing
import torch

import trtnet

OPSET = 18


class Candidate(paired_timing.Candidate):
    """One way to run a model on a CPU.

    Attributes:
        call: gives the first output.
        setup_s: seconds until it could be called.
    """

    call: Callable[[], np.ndarray]

    def __init__(self, name: str, call: Callable[[], np.ndarray], setup_s: float) -> None:
        super().__init__(name, call, None, setup_s)

    def ratio(self, ours: Candidate) -> paired_timing.Ratio:
        """How many times as long as `ours` it takes."""
        return paired_timing.paired_ratio(self.times, ours.times)


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
