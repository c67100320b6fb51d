"""How fast sessions of the torch backend run on a CPU, against onnxruntime and PyTorch.

    python tools/bench_cpu.py [--model resnet50 ...] [--threads 2] [--repeats 25]
                              [--markdown benchmarks/runtime_cpu.md]

FP32, batch 1, random weights. The candidates take turns in one process, each with the same number
of threads; onnxruntime's threads do not spin, which would slow whoever runs next. A ratio is the
median over the rounds of a peer's time by the session's, with the 95 % interval of that median.
onnxruntime runs the PyTorch counterpart as torch.onnx.export wrote it. Errors are relative, in the
L2 norm, to the counterpart in float64.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import io
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from installed import versions

import trtnet
from trtnet import zoo
from trtnet.files import atomic_write
from trtnet.weights import random_init

MODELS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16", "unet")
OURS, PEER = "session", "onnxruntime"
WARM_UP = 3
OPSET = 18


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


@dataclass(frozen=True)
class Row:
    """What was measured of one candidate: milliseconds, and its ratio to the session's time."""

    model: str
    name: str
    median_ms: float
    setup_s: float
    error: float
    ratio: float
    interval: tuple[float, float]


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", action="append", help="several; default: " + ", ".join(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    for name in arguments.model or MODELS:
        found = measure(name, arguments.threads, arguments.repeats)
        rows += found
        print(*(line(row) for row in found), sep="\n", flush=True)
    if arguments.markdown is not None:
        with atomic_write(arguments.markdown) as file:
            file.write(page(rows, arguments.threads).encode())
    return 0


def measure(name: str, threads: int, repeats: int) -> list[Row]:
    """The rows of one model."""
    entry = zoo.get_entry(name)
    size = entry.input_shape
    assert size is not None
    torch_model = random_init.random_module(entry.torch_model, 0, input_shape=size)
    shape = (1, *size)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    made = candidates(name, torch_model, x, threads)
    with torch.no_grad():
        double = _first(copy.deepcopy(torch_model).double()(torch.from_numpy(x).double())).numpy()
    for candidate in made:
        for _ in range(WARM_UP):
            candidate.call()
    for _ in range(repeats):
        for candidate in made:
            start = time.perf_counter()
            candidate.call()
            candidate.times.append(time.perf_counter() - start)
    ours = next(c for c in made if c.name.startswith(OURS))
    return [_row(name, candidate, ours, double) for candidate in made]


def candidates(name: str, model: torch.nn.Module, x: np.ndarray, threads: int) -> list[Candidate]:
    """Sessions of both runtimes, onnxruntime and PyTorch itself."""
    plan = _plan(name, model, x.shape)
    found = []
    for runtime in ("auto", "torch"):
        start = time.perf_counter()
        session = trtnet.Session(plan, device="cpu", runtime=runtime)
        title = f"{OURS} ({session.runtime.partition(',')[0]})"
        opened = time.perf_counter() - start
        found.append(Candidate(title, partial(_of_session, session, x), opened))
    start = time.perf_counter()
    run = _onnxruntime(model, x, threads)
    found.append(Candidate(PEER, run, time.perf_counter() - start))
    images = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return _first(last(images)).numpy()

    return [*found, Candidate("PyTorch, channels_last", eager, 0.0)]


def _of_session(session: trtnet.Session, x: np.ndarray) -> np.ndarray:
    value: np.ndarray = next(iter(session(x).values()))
    return value


def _plan(name: str, model: torch.nn.Module, shape: Sequence[int]) -> trtnet.Plan:
    made = zoo.get_model(name)
    made.load_state_dict({key: value.numpy() for key, value in model.state_dict().items()})
    net = trtnet.Network("torch")
    outputs = made(net.input("input", tuple(shape)))
    for key, value in (outputs if isinstance(outputs, dict) else {"y": outputs}).items():
        net.output(key, value)
    return trtnet.build(net)


def _onnxruntime(model: torch.nn.Module, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    written = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)  # it has no ONNX operator
    target: Any = written  # also for files in memory, says its documentation
    torch.onnx.export(model, (torch.from_numpy(x),), target, dynamo=False, opset_version=OPSET)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(written.getvalue(), options)
    given = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, given)[0]


def _first(output: object) -> torch.Tensor:
    if isinstance(output, dict):
        output = next(iter(output.values()))
    assert isinstance(output, torch.Tensor)
    return output


def _row(model: str, candidate: Candidate, ours: Candidate, double: np.ndarray) -> Row:
    ratios = sorted(a / b for a, b in zip(candidate.times, ours.times, strict=True))
    low, high = _median_interval(len(ratios))
    error = np.linalg.norm(candidate.call() - double) / np.linalg.norm(double)
    return Row(model, candidate.name, 1e3 * statistics.median(candidate.times), candidate.setup_s,
               float(error), statistics.median(ratios), (ratios[low], ratios[high]))  # fmt: skip


def _median_interval(count: int) -> tuple[int, int]:
    """The places of the sorted values between which the median lies with 95 %: the binomial
    distribution's normal approximation."""
    half = 1.96 * math.sqrt(count) / 2
    return max(math.floor(count / 2 - half), 0), min(math.ceil(count / 2 + half), count - 1)


def line(row: Row) -> str:
    """A row in words."""
    low, high = row.interval
    measured = f"{row.median_ms:8.2f} ms  x{row.ratio:.2f} [{low:.2f}, {high:.2f}]"
    tail = f"error {row.error:.1e}  set-up {row.setup_s:.1f} s"
    return f"{row.model:18} {row.name:28} {measured}  {tail}"


def page(rows: Sequence[Row], threads: int) -> str:
    """The page of results."""
    peers = [row for row in rows if row.name == PEER]
    mean = statistics.geometric_mean(row.ratio for row in peers)
    used = versions("torch", "openvino", "onnxruntime", "numpy")
    head = (
        "# Sessions on a CPU\n\n"
        f"`{' '.join(['python', 'tools/bench_cpu.py', *sys.argv[1:]])}`: FP32, batch 1, "
        f"{threads} threads; medians of rounds in which the candidates take turns.\n\n"
        f"{datetime.date.today()}; {_processor()}; {used}.\n\n"
        f"onnxruntime's time by the session's, geometric mean: **{mean:.2f}**. A ratio above 1 "
        "means that the session is faster; in brackets the 95 % interval of its median.\n\n"
        "| model | what | median | its time by the session's | error | set-up |\n"
        "|---|---|--:|--:|--:|--:|\n"
    )
    return head + "".join(
        f"| {row.model} | {row.name} | {row.median_ms:.2f} ms | {row.ratio:.2f} "
        f"[{row.interval[0]:.2f}, {row.interval[1]:.2f}] | {row.error:.1e} "
        f"| {row.setup_s:.1f} s |\n"
        for row in rows
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else "an unknown processor"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
