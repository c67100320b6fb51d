"""Times non-maximum suppression of the torch backend against torchvision's and against the loop.

    python tools/bench_nms.py [--boxes 1000] [--classes 80] [--repeat 50] [--markdown FILE]

Everything is timed in one run, turn by turn, on a GPU where there is one: what the backend runs is
then captured in a CUDA graph, and so is ``torchvision.ops.batched_nms`` where PyTorch can capture
it. Each box has one class, as ``batched_nms`` takes them. The results are compared first.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from installed import versions
from nms_oracle import KINDS
from torch import Tensor

import trtnet
from trtnet import graph, reference
from trtnet.detection import Suppression
from trtnet.detection.selection import Candidates, choose_among
from trtnet.engines.torch import engine
from trtnet.files import atomic_write

WARM_UP = 5
DETECTIONS = 100
THRESHOLD = 0.5

Run = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """What was timed.

    Attributes:
        seconds: the median.
        graph: whether it was one launch of a CUDA graph.
    """

    name: str
    seconds: float
    graph: bool


def network(boxes: int, classes: int, form: str) -> trtnet.Network:
    """The best detections among boxes of one class each."""
    net = trtnet.Network("torch")
    corners, scores = net.input("boxes", (1, boxes, 4)), net.input("scores", (1, boxes))
    labels = net.input("labels", (1, boxes), "int32")
    how = Suppression(THRESHOLD, 0.0, max_detections=DETECTIONS, form=form)
    found = choose_among(Candidates(corners, scores, labels, labels), how, classes)
    for name, value in found._asdict().items():
        net.output(name, value)
    return net


def inputs(boxes: int, classes: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Clustered boxes, their scores, and a class of each."""
    rng = np.random.default_rng(0)
    corners, scores = KINDS["clustered"](rng, boxes, 1)
    labels = rng.integers(0, classes, boxes).astype(np.int32)
    arrays = (corners[None], np.ascontiguousarray(scores.T), labels[None])
    boxes_, scores_, labels_ = (torch.from_numpy(x).to(device) for x in arrays)
    return boxes_, scores_, labels_


def compared(given: tuple[Tensor, Tensor, Tensor], found: dict[str, Tensor]) -> None:
    """Raises ValueError where the detections are not those of ``torchvision.ops.nms``, class by
    class."""
    boxes, scores, labels = (x[0].cpu() for x in given)
    kept: list[int] = []
    for label in labels.unique():
        (own,) = torch.nonzero(labels == label, as_tuple=True)
        kept += own[torchvision.ops.nms(boxes[own], scores[own], THRESHOLD)].tolist()
    best = sorted(kept, key=lambda i: -float(scores[i]))[:DETECTIONS]
    if not torch.equal(found["det_boxes"][0, : len(best)].cpu(), boxes[best]):
        raise ValueError("the detections differ from those of torchvision.ops.nms")


def captured(run: Run) -> Run | None:
    """`run` as the launch of a CUDA graph; None where PyTorch cannot capture it."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    stream.synchronize()
    recorded = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(recorded, stream=stream):
            run()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return recorded.replay


def once(run: Run, device: str) -> float:
    """Seconds of one execution, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rows(boxes: int, classes: int, repeat: int, device: str) -> list[Row]:
    """The medians, torchvision's first."""
    given = inputs(boxes, classes, device)
    plain = tuple(x[0] for x in given)
    runs: dict[str, Run] = {
        "torchvision.ops.batched_nms": lambda: torchvision.ops.batched_nms(*plain, THRESHOLD)
    }
    for form in ("loop", "unrolled"):
        net = network(boxes, classes, form)
        plan = trtnet.build(net)
        quick = engine.load(plan, device=device).module
        compared(given, quick(*given))
        runs[f"torch backend, {form}"] = lambda quick=quick: quick(*given)  # type: ignore[misc]
        slow = reference.compile(graph.read(net), device=device)
        runs[f"its layers, {form}"] = lambda slow=slow: slow(*given)  # type: ignore[misc]
    graphs: set[str] = set()
    for name, run in list(runs.items()) if device == "cuda" else []:
        if "layers, loop" in name:  # the host ends the loop
            continue
        launch = captured(run)
        if launch is not None:
            runs[name] = launch
            graphs.add(name)
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(WARM_UP + repeat):
            for name, run in runs.items():
                seconds = once(run, device)
                if turn >= WARM_UP:
                    times[name].append(seconds)
    return [Row(name, statistics.median(found), name in graphs) for name, found in times.items()]


def page(found: list[Row], arguments: argparse.Namespace, device: str) -> str:
    """The table."""
    first = found[0].seconds
    where = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    lines = [
        "# Time of non-maximum suppression",
        "",
        f"`python tools/bench_nms.py --boxes {arguments.boxes} --classes {arguments.classes}`: "
        f"{arguments.boxes} boxes, each of one of {arguments.classes} classes, IoU {THRESHOLD}; "
        f"the {DETECTIONS} best in places of fixed number (`batched_nms` gives the positions of "
        "all that are kept). Medians, turn by turn in one run.",
        "",
        f"{datetime.date.today()}; {where}, {torch.get_num_threads()} threads; "
        f"{versions('torch', 'torchvision', 'numpy')}.",
        "",
        "| what | ms | torchvision = 1 | CUDA graph |",
        "|---|---|---|---|",
    ]
    for row in found:
        times = f"{row.seconds * 1e3:.3f} | {row.seconds / first:.2f}"
        lines.append(f"| {row.name} | {times} | {'yes' if row.graph else 'no'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeat", type=int, default=50, help="executions of each")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the page to write")
    arguments = parser.parse_args()
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = rows(arguments.boxes, arguments.classes, arguments.repeat, device)
    text = page(found, arguments, device)
    print(text)
    if arguments.markdown is not None:
        with atomic_write(arguments.markdown) as file:
            file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
