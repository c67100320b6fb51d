"""How fast the reference runs and verifies ResNet-50, against torchvision's own forward.

    python tools/bench_reference.py [--device cuda] [--batch 1 --batch 256] [--repeats 9]
                                    [--graphs DIR] [--markdown benchmarks/reference.md]

The candidates take turns in one process, so that a machine whose speed drifts slows all of them.
On a GPU the eager model is in the reference's precision and channels_last, and verification is not
timed. Needs ``pip install -e ".[rtx,torch]"``, or for a GPU without TensorRT the graphs that
``--graphs DIR`` saved on another machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from installed import versions

import trtnet
from trtnet import graph, reference, weights, zoo
from trtnet.files import atomic_write

MODEL = "resnet50"
SHAPE = (3, 224, 224)
START_UP = "start-up"
VERIFY = "verify fp32"
VERIFICATION = (
    f"`{VERIFY}` is `trtnet.verify(network, model, inputs)` of all modules, which runs the network "
    "in the reference and the model in PyTorch and compares every module's output, less its "
    f"start-up. `{START_UP}` is what it does before: reading the network back and compiling the "
    "graph. Importing torch and defining the network are in neither.",
    "",
)
Candidate = Callable[[], Any]


def define(precision: str, state: dict[str, np.ndarray]) -> trtnet.Network:
    """The zoo's network; its input and output are float32."""
    model = zoo.get_model(MODEL)
    model.load_state_dict(state)
    network = trtnet.Network("rtx", precision=precision)
    network.output("logits", model(network.input("input", ("N", *SHAPE))))
    return network


def read_back(precision: str, state: dict[str, np.ndarray]) -> graph.Graph:
    """The graph of the network in `precision`."""
    return graph.read(define(precision, state).definition)


def saved(precision: str, state: dict[str, np.ndarray], folder: Path | None) -> graph.Graph:
    """The graph in `folder`; it is read back and saved there if it is missing."""
    if folder is None:
        return read_back(precision, state)
    path = folder / f"{MODEL}-{precision}.safetensors"
    if not path.exists():
        graph.save(path, read_back(precision, state))
    return graph.load(path)


def candidates(batch: int, device: str, folder: Path | None) -> dict[str, Candidate]:
    """What is timed, by name: eager PyTorch and the reference."""
    state = weights.random_state(MODEL)
    eager = torchvision.models.get_model(MODEL).eval()
    eager.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()})
    x = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    fp16 = reference.compile(saved("fp16", state, folder), device=device)
    if device == "cpu":
        network = define("fp32", state)
        fp32 = reference.compile(graph.read(network.definition))
        return {
            "eager fp32": lambda: eager(x),
            "reference fp32": lambda: fp32(x)["logits"],
            "reference fp16": lambda: fp16(x)["logits"],
            START_UP: lambda: start_up(network),
            VERIFY: lambda: verify(network, eager, x),
        }
    half = eager.to(device).half().to(memory_format=torch.channels_last)
    narrow = x.half().to(memory_format=torch.channels_last)
    return {"eager fp16": lambda: half(narrow), "reference fp16": lambda: fp16(x)["logits"]}


def start_up(network: trtnet.Network) -> None:
    """Reads the network back and compiles it, as verification does before it runs anything."""
    names = sorted({tensor.name for tensor in network.module_outputs.values()})
    reference.compile(graph.read(network.definition), outputs=names)


def verify(network: trtnet.Network, eager: torch.nn.Module, x: torch.Tensor) -> None:
    """Verifies `network`; raises where it differs from `eager`."""
    with torch.inference_mode(False):  # verification watches for modules that work in place
        trtnet.verify(network, eager, {"input": x.numpy()}).require()


def measure(run: dict[str, Candidate], device: str, repeats: int) -> dict[str, float]:
    """The median seconds of each candidate's second run in `repeats` rounds of two runs each."""
    seconds: dict[str, list[float]] = {name: [] for name in run}
    rounds = range(-2, repeats)  # the first two warm up
    with torch.inference_mode():
        for i in rounds:
            for name, candidate in run.items():
                candidate()  # leaves the memory as this candidate would find it
                start = time.perf_counter()
                candidate()
                if device != "cpu":
                    torch.cuda.synchronize()
                if i >= 0:
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rows(batch: int, device: str, repeats: int, folder: Path | None) -> list[str]:
    """Lines of the table for one batch size."""
    found = measure(candidates(batch, device, folder), device, repeats)
    pairs = [("reference fp16", "eager fp16", 1.0)]
    if device == "cpu":
        found[VERIFY] -= found[START_UP]
        pairs = [
            ("reference fp32", "eager fp32", 1.15),
            ("reference fp16", "reference fp32", 2.0),
            (VERIFY, "eager fp32", 3.0),
        ]
    lines = [
        f"| {batch} | {ours} | {1e3 * found[ours]:.2f} ms | {other} | {1e3 * found[other]:.2f} ms "
        f"| {found[ours] / found[other]:.2f} (aim {aim:g}) |"
        for ours, other, aim in pairs
    ]
    if START_UP in found:
        lines.append(f"| {batch} | {START_UP} | {1e3 * found[START_UP]:.2f} ms | | | |")
    return lines


def table(lines: Sequence[str], batches: Sequence[int], device: str, repeats: int) -> str:
    """The page."""
    flags = f"--device {device} {' '.join(f'--batch {n}' for n in batches)} --repeats {repeats}"
    place = f"{os.cpu_count()} cores, {platform.machine()}"
    if device != "cpu":
        place = torch.cuda.get_device_name()
    return "\n".join(
        [
            "# The reference's speed",
            "",
            f"`python tools/bench_reference.py {flags}`: ResNet-50 at 224 by 224, medians of "
            f"{repeats} rounds in which the candidates take turns, the second of two runs each.",
            "",
            f"{datetime.date.today()}; {place}; {versions('torch', 'torchvision')}.",
            "",
            *(VERIFICATION if device == "cpu" else ()),
            "| batch | what | time | against | time | ratio |",
            "|--:|---|--:|---|--:|--:|",
            *lines,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, action="append", help="default 1 and 8")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--graphs", type=Path, metavar="DIR", help="where the graphs are kept")
    arguments = parser.parse_args(argv)
    lines, batches = [], arguments.batch or [1, 8]
    for batch in batches:
        lines += rows(batch, arguments.device, arguments.repeats, arguments.graphs)
    text = table(lines, batches, arguments.device, arguments.repeats)
    print(text)
    if arguments.markdown is not None:
        with atomic_write(arguments.markdown) as file:
            file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
