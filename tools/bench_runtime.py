"""How fast sessions of the torch backend run ResNet-50 in FP16, against PyTorch's own ways.

    python tools/bench_runtime.py [--batch 1 --batch 256] [--repeats 50] [--max-autotune]
                                  [--engines DIR] [--markdown benchmarks/runtime_h200.md]

Needs a GPU. The candidates take turns in one process, so that a GPU whose clock drifts slows all
of them; times are medians between CUDA events. The baselines are given half-precision
channels_last images, the session float32 ones as they come from a file, which it converts itself.
Without TensorRT, which defines the network, give the engine that ``--engines DIR`` kept on
another machine.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from installed import versions

import trtnet
from trtnet import graph, weights, zoo
from trtnet.benchmark import Roofline, known_gpu
from trtnet.building.plan import Plan
from trtnet.engines.steps import Steps
from trtnet.files import atomic_write

MODEL = "resnet50"
SHAPE = (3, 224, 224)
LARGEST = 256
OURS = "session"
MAPPED = 96  # items for map(), or as many as make this number of images
MAPPED_IMAGES = 400
HOST_BOUND_MS = 1.0


@dataclass
class Candidate:
    """One way to run the model: `call` enqueues an execution on `stream`."""

    name: str
    call: Callable[[], object]
    stream: torch.cuda.Stream
    setup_s: float


def engine(folder: Path) -> Plan:
    """The plan in `folder`; it is built and kept there if it is missing."""
    path = folder / f"{MODEL}-fp16.engine"
    if not path.exists():
        model = zoo.get_model(MODEL)
        model.load_state_dict(weights.random_state(MODEL))
        net = trtnet.Network("torch", precision="fp16")
        net.output("logits", model(net.input("input", ("N", *SHAPE))))
        shapes = trtnet.Shapes((1, *SHAPE), (8, *SHAPE), (LARGEST, *SHAPE))
        trtnet.build(net, {"input": shapes}).save(path)
    return Plan.load(path)


def torchvision_model() -> torch.nn.Module:
    """torchvision's model with the weights of the engine, in half precision and channels_last."""
    model: torch.nn.Module = torchvision.models.get_model(MODEL).eval()
    state = weights.random_state(MODEL)
    model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in state.items()})
    return model.cuda().half().to(memory_format=torch.channels_last)


def captured(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """`model` as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(x)
    torch.cuda.synchronize()
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        model(x)
    return recorded.replay


def compiled(model: torch.nn.Module, x: torch.Tensor, mode: str) -> Callable[[], object]:
    """`model` under ``torch.compile``, warmed up."""
    torch.compiler.reset()
    fast = torch.compile(model, mode=mode)
    for _ in range(4):
        fast(x)
    return lambda: fast(x)


def baselines(batch: int, autotune: bool) -> list[Candidate]:
    """PyTorch's own ways to run the model."""
    model = torchvision_model()
    x = torch.randn(batch, *SHAPE, device="cuda").half().to(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], Callable[[], object]]] = {
        "eager channels_last": lambda: lambda: model(x),
        "CUDA graph of it": lambda: captured(model, x),
        "torch.compile reduce-overhead": lambda: compiled(model, x, "reduce-overhead"),
    }
    if autotune:
        ways["torch.compile max-autotune"] = lambda: compiled(model, x, "max-autotune")
    return prepared(ways)


def prepared(ways: Mapping[str, Callable[[], Callable[[], object]]]) -> list[Candidate]:
    """Each of `ways`, by name, called once and ready to be measured."""
    found = []
    for name, prepare in ways.items():
        started = time.perf_counter()
        call = prepare()
        call()
        torch.cuda.synchronize()
        setup_s = time.perf_counter() - started
        found.append(Candidate(name, call, torch.cuda.current_stream(), setup_s))
    return found


@contextmanager
def ours(plan: Plan, batch: int) -> Iterator[tuple[trtnet.Session, Steps, Candidate]]:
    """A session, and its execution on images that are on the GPU already."""
    started = time.perf_counter()
    with trtnet.Session(plan, backend="torch", device="cuda") as session, session.lane() as lane:
        lane.bind({"input": (batch, *SHAPE)})
        lane.fill({"input": images(batch)})
        lane.copy_in()
        lane.stream.synchronize()
        setup_s = time.perf_counter() - started
        assert lane.is_captured, "no CUDA graph could be captured"
        stream = torch.cuda.ExternalStream(lane.stream.handle)
        yield session, lane, Candidate(OURS, lane.enqueue, stream, setup_s)


def images(batch: int, seed: int = 0) -> np.ndarray:
    """Seeded normal images, float32."""
    return np.random.default_rng(seed).standard_normal((batch, *SHAPE), np.float32)


def measure(candidates: Sequence[Candidate], repeats: int) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for i in range(-5, repeats):  # the first five warm up
        for candidate in candidates:
            elapsed = between_events(candidate.call, candidate.stream)
            if i >= 0:
                times[candidate.name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def between_events(call: Callable[[], object], stream: torch.cuda.Stream) -> float:
    """Milliseconds on the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record(stream)
    call()
    end.record(stream)
    end.synchronize()
    return float(start.elapsed_time(end))


def host_us(call: Callable[[], object], bursts: int = 20) -> str:
    """Median microseconds until `call` returns, while the GPU is busy with the calls before."""
    times = []
    for _ in range(bursts):
        torch.cuda.synchronize()
        for _ in range(20):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return f"{1e6 * statistics.median(times[len(times) // 10 :]):.1f} us"


def mapping(session: trtnet.Session, lane: Steps, candidate: Candidate, batch: int) -> list[str]:
    """How ``map`` over host arrays compares with the slower of copy and compute; an array that is
    not page-locked is first copied to where the GPU can read it."""
    best = {
        name: min(between_events(part, candidate.stream) for _ in range(10))
        for name, part in (("in", lane.copy_in), ("compute", candidate.call))
    }
    best["compute"] = 1e3 * seconds(lambda: back_to_back(candidate, MAPPED)) / MAPPED
    plain = [images(batch, seed) for seed in range(4)]
    locked = [torch.from_numpy(array).pin_memory().numpy() for array in plain]
    stage = min(seconds(lambda: lane.fill({"input": plain[0]})) for _ in range(10)) * 1e3
    lines = []
    for kind, arrays, copy in (
        ("page-locked", locked, best["in"]),
        ("any", plain, best["in"] + stage),
    ):
        each = 1e3 * per_item(session, arrays, max(MAPPED, MAPPED_IMAGES // batch))
        slower = max(copy, best["compute"])
        which = "copy" if copy > best["compute"] else "compute"
        lines.append(
            f"| {batch} | {kind} | {copy:.2f} ms | {best['compute']:.2f} ms | {each:.2f} ms "
            f"| {slower / each:.2f} of the {which} (aim 0.95) |"
        )
    return lines


def per_item(session: trtnet.Session, arrays: Sequence[np.ndarray], count: int) -> float:
    """Seconds per item of a long ``map``; the first one gives every lane its memory and graph."""
    items = [arrays[i % len(arrays)] for i in range(count)]
    return [seconds(lambda: list(session.map(items))) for _ in range(2)][1] / count


def back_to_back(candidate: Candidate, count: int) -> None:
    """Calls `candidate` `count` times, and waits for the GPU once."""
    for _ in range(count):
        candidate.call()
    candidate.stream.synchronize()


def seconds(call: Callable[[], object]) -> float:
    """Seconds that `call` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rows(batch: int, plan: Plan, options: argparse.Namespace) -> tuple[list[str], ...]:
    """Lines of the three tables for one batch size."""
    others = baselines(batch, options.max_autotune)
    with ours(plan, batch) as (session, lane, own):
        found = measure([*others, own], options.repeats)
        best = min(found[other.name] for other in others)
        x = torch.randn(batch, *SHAPE, device="cuda")
        waits = found[OURS] > HOST_BOUND_MS  # then calls wait until the GPU takes more work
        overhead = ("", "") if waits else (host_us(own.call), host_us(lambda: session(x)))
        mapped = mapping(session, lane, own, batch)
    aim = 1.4 if batch == 1 else 1.2
    speed = [
        f"| {batch} | {c.name} | {found[c.name]:.3f} ms | {1e3 * batch / found[c.name]:,.0f} "
        f"| {c.setup_s:.1f} s | {best / found[c.name]:.2f}{f' (aim {aim})' * (c is own)} |"
        for c in (*others, own)
    ]
    bound = roofline(plan, batch, found[OURS])
    limits = [
        f"| {batch} | {bound.bound_ms:.3f} ms | {bound.share:.0%} | {bound.limit} "
        f"| {overhead[0]} | {overhead[1]} |"
    ]
    return speed, limits, mapped


def roofline(plan: Plan, batch: int, milliseconds: float) -> Roofline:
    """The roofline with ceilings measured on this kind of GPU, or else those of its data sheet."""
    key = known_gpu(torch.cuda.get_device_name()) or "h200"
    measured = f"{key}-measured"
    gpu = measured if measured in graph.gpus() else key
    shapes = {"input": (batch, *SHAPE)}
    return Roofline(graph.cost(graph.loads(plan.engine), shapes).bound(gpu), milliseconds)


def table(tables: Sequence[Sequence[str]], options: argparse.Namespace) -> str:
    """The page."""
    packages = ("torch", "torchvision", "triton", "cuda-bindings")
    flags = " ".join(f"--batch {batch}" for batch in options.batch)
    flags += f" --repeats {options.repeats}{' --max-autotune' * options.max_autotune}"
    speed, limits, mapped = tables
    return "\n".join(
        [
            "# Sessions of the torch backend",
            "",
            f"`python tools/bench_runtime.py {flags}`: ResNet-50 in FP16 at 224 by 224, medians of "
            f"{options.repeats} rounds in which the candidates take turns.",
            "",
            f"{datetime.date.today()}; {torch.cuda.get_device_name()}; {versions(*packages)}, "
            f"cuDNN {torch.backends.cudnn.version()}.",
            "",
            "| batch | what | time | images/s | set up in | best of the others, divided by it |",
            "|--:|---|--:|--:|--:|--:|",
            *speed,
            "",
            "The bound is that of `trtnet cost`; the host's time is that until a call returns, for "
            "images on the GPU, in bursts of 20: the launch alone, and all of `session(x)`.",
            "",
            "| batch | bound | reached | limited by | launch | session(x) |",
            "|--:|--:|--:|---|--:|--:|",
            *limits,
            "",
            "`map` over numpy arrays. The copy of one that is not page-locked begins on the host:",
            "",
            "| batch | arrays | copy | compute | map, per item | reached |",
            "|--:|---|--:|--:|--:|---|",
            *mapped,
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, action="append", help="default 1 and 256")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--max-autotune", action="store_true", help="takes minutes")
    parser.add_argument("--engines", type=Path, default=Path("engines"), metavar="DIR")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    options = parser.parse_args(argv)
    options.batch = options.batch or [1, 256]
    plan = engine(options.engines)
    with torch.inference_mode():
        found = [rows(batch, plan, options) for batch in options.batch]
    tables = [[line for lines in part for line in lines] for part in zip(*found, strict=True)]
    text = table(tables, options)
    print(text)
    if options.markdown is not None:
        with atomic_write(options.markdown) as file:
            file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
