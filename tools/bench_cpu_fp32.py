"""The part ``fp32`` of ``tools/bench_cpu.py``: FP32, random weights, against onnxruntime and
PyTorch. Errors are relative, in the L2 norm, to the PyTorch counterpart in float64."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cpu_candidates import Candidate, by_onnxruntime, session
from paired_timing import Ratio, interleave, ratio_in_words

import trtnet
from trtnet import zoo
from trtnet.weights import random_init

OURS, PEER = "session", "onnxruntime"


@dataclass(frozen=True)
class Row:
    """What was measured of one candidate: milliseconds, and its ratio to the session's time."""

    model: str
    name: str
    median_ms: float
    setup_s: float
    error: float
    ratio: Ratio


def part(models: Sequence[str], threads: int, repeats: int) -> str:
    """The section of the page; prints each row."""
    rows: list[Row] = []
    for name in models:
        found = measure(name, threads, repeats)
        rows += found
        print(*map(line, found), sep="\n", flush=True)
    return section(rows)


def measure(name: str, threads: int, repeats: int) -> list[Row]:
    """The rows of one model."""
    entry = zoo.get_entry(name)
    size = entry.input_shape
    assert size is not None
    torch_model = random_init.random_module(entry.torch_model, 0, input_shape=size)
    x = np.random.default_rng(0).standard_normal((1, *size), np.float32)
    made = candidates(name, torch_model, x, threads)
    with torch.no_grad():
        double = _first(copy.deepcopy(torch_model).double()(torch.from_numpy(x).double())).numpy()
    interleave(made, repeats)
    return [_row(name, candidate, made[0], double) for candidate in made]


def candidates(name: str, model: torch.nn.Module, x: np.ndarray, threads: int) -> list[Candidate]:
    """Sessions of both runtimes, onnxruntime and PyTorch itself."""
    plan = _plan(name, model, x.shape)
    found = [session(plan, OURS, x, runtime) for runtime in ("auto", "torch")]
    start = time.perf_counter()
    run = by_onnxruntime(model, x, threads)
    found.append(Candidate(PEER, lambda: run()[0], time.perf_counter() - start))
    images = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return _first(last(images)).numpy()

    return [*found, Candidate("PyTorch, channels_last", eager, 0.0)]


def _plan(name: str, model: torch.nn.Module, shape: Sequence[int]) -> trtnet.Plan:
    made = zoo.get_model(name)
    made.load_state_dict({key: value.numpy() for key, value in model.state_dict().items()})
    net = trtnet.Network("torch")
    outputs = made(net.input("input", tuple(shape)))
    for key, value in (outputs if isinstance(outputs, dict) else {"y": outputs}).items():
        net.output(key, value)
    return trtnet.build(net)


def _first(output: object) -> torch.Tensor:
    if isinstance(output, dict):
        output = next(iter(output.values()))
    assert isinstance(output, torch.Tensor)
    return output


def _row(model: str, candidate: Candidate, ours: Candidate, double: np.ndarray) -> Row:
    error = np.linalg.norm(candidate.call() - double) / np.linalg.norm(double)
    return Row(model, candidate.name, candidate.median_ms, candidate.setup_s, float(error),
               candidate.ratio(ours))  # fmt: skip


def line(row: Row) -> str:
    """A row in words."""
    measured = f"{row.median_ms:8.2f} ms  x{ratio_in_words(row.ratio)}"
    tail = f"error {row.error:.1e}  set-up {row.setup_s:.1f} s"
    return f"{row.model:18} {row.name:28} {measured}  {tail}"


def section(rows: Sequence[Row]) -> str:
    """The section of the page."""
    mean = statistics.geometric_mean(row.ratio.median for row in rows if row.name == PEER)
    head = (
        "Random weights. Errors are relative, in the L2 norm, to the PyTorch "
        "counterpart in float64. onnxruntime's time by the session's, geometric mean: "
        f"**{mean:.2f}**.\n\n"
        "| model | what | median | its time by the session's | error | set-up |\n"
        "|---|---|--:|--:|--:|--:|\n"
    )
    return head + "".join(
        f"| {row.model} | {row.name} | {row.median_ms:.2f} ms | {ratio_in_words(row.ratio)} "
        f"| {row.error:.1e} "
        f"| {row.setup_s:.1f} s |\n"
        for row in rows
    )
