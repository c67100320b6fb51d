"""How the throughput of ``trtnet batch`` grows with GPUs: its workers, one process for each GPU.

    python tools/bench_batch.py [--gpus 2] [--engine FILE] [--seconds 8] [--rounds 3]
                                [--rows benchmarks/batch_h200.jsonl]

Ray is not used: each process has one GPU of its own (CUDA_VISIBLE_DEVICES), and runs what an actor
of Ray would run: `trtnet.serving.batch.worker.PartWorker` on JPEG files, and
`trtnet.serving.ray.Predictor` on prepared arrays. Processes stay open; in each round one of them
works alone, then all do. Rates are images between the first and the last part that a process ended
in its time, so that neither opening nor warming up counts. The files are made here. Without pyarrow
results are computed and not written, which the row says.

Where networks cannot be defined, give an engine that was built elsewhere:

    python -m trtnet.zoo resnet50 --fp16 --backend torch --batch 64 --skip-verify --saveEngine FILE
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

import trtnet
from trtnet import hardware
from trtnet.files import atomic_write
from trtnet.pipeline import Recipe
from trtnet.pipeline import run as run_recipe
from trtnet.pipeline.preprocessing import state_preprocessing
from trtnet.serving.batch.job import PART, BatchJob, Part
from trtnet.serving.batch.parts import PartsFolder
from trtnet.serving.batch.worker import PartWorker
from trtnet.serving.ray import Predictor

FILES = 1024
SIZE = (500, 375)  # of an image, in pixels: what ImageNet has most
PACKAGES = ("numpy", "pillow", "pyarrow", "torch", "triton")


def main() -> int:
    """Measures, prints and writes a row."""
    arguments = _parser().parse_args()
    if arguments.worker is not None:
        _work(arguments)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as folder:
        engine = arguments.engine or _build(arguments, Path(folder))
        make_images(Path(folder, "in"), arguments.files)
        row = _measure(arguments, engine, Path(folder))
    print(json.dumps(row, indent=1))
    if arguments.rows is not None:
        _append(arguments.rows, row)
    return 0


def make_images(folder: Path, count: int) -> None:
    """JPEG files of smooth seeded noise."""
    folder.mkdir()

    def make(index: int) -> None:
        noise = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = PIL.Image.fromarray(noise).resize(SIZE, PIL.Image.Resampling.BICUBIC)
        image.save(folder / f"{index:05d}.jpg", quality=90)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, range(count)))


def rate(ends: Sequence[tuple[float, int]]) -> float:
    """Images per second between the first and the last of the parts that a process ended.

    Args:
        ends: the time of each, in seconds, and its images.
    """
    if len(ends) < 2:
        raise SystemExit("a process has ended fewer than two parts: take more --seconds")
    return sum(count for _, count in ends[1:]) / (ends[-1][0] - ends[0][0])


def scaling(alone: Sequence[float], together: Sequence[float]) -> dict[str, Any]:
    """The rates of rounds, and how many times the rate of one process all have."""
    ratios = [many / one for one, many in zip(alone, together, strict=True)]
    return {
        "one": [round(value, 1) for value in alone],
        "all": [round(value, 1) for value in together],
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "low": round(min(ratios), 3),
            "high": round(max(ratios), 3),
        },
    }


class Process:
    """A worker in a process of its own, which sees one GPU.

    Args:
        index: of the worker, and of its GPU.
    """

    def __init__(self, index: int, command: Sequence[str], uses_gpu: bool) -> None:
        seen = {"CUDA_VISIBLE_DEVICES": str(index)} if uses_gpu else {}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *command, "--worker", str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **seen},
        )

    def answer(self) -> Any:
        """The next line of the worker."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker has ended: {self._process.wait()}")
        return json.loads(line)

    def ask(self, what: str) -> None:
        """Has it work on ``files`` or ``arrays``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _measure(arguments: argparse.Namespace, engine: Path, folder: Path) -> dict[str, Any]:
    readers = arguments.readers or max(1, (os.cpu_count() or 1) // arguments.gpus)
    given = {"--engine": engine, "--folder": folder, "--readers": readers,
             "--seconds": arguments.seconds, "--files": arguments.files}  # fmt: skip
    command = [word for flag, value in given.items() for word in (flag, str(value))]
    command += ["--cpu"] * arguments.cpu
    workers = [Process(index, command, not arguments.cpu) for index in range(arguments.gpus)]
    about, *_ = [worker.answer() for worker in workers]
    row: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "how": "worker processes without Ray, one for each GPU",
        "model": arguments.model,
        "engine": engine.name if arguments.engine is not None else f"{arguments.model}:fp16",
        **about,
        "workers": arguments.gpus,
        "readers": readers,
        "image": "{}x{} JPEG".format(*SIZE),
        "machine": _machine(),
        "versions": _versions(),
        "command": _command(sys.argv[1:]),
    }
    for what in ("files", "arrays"):
        alone, together = [], []
        for turn in range(arguments.rounds):
            alone.append(_rates([workers[turn % len(workers)]], what))
            together.append(_rates(workers, what))
        row[what] = scaling(alone, together)
    for worker in workers:
        worker.close()
    return row


def _rates(workers: Sequence[Process], what: str) -> float:
    """Images per second of `workers` that work at the same time."""
    for worker in workers:
        worker.ask(what)
    return sum(rate(worker.answer()) for worker in workers)


def _work(arguments: argparse.Namespace) -> None:
    """A worker: opens the engine, says so, and does what it is asked for."""
    device = "cpu" if arguments.cpu else "cuda"
    folder: Path = arguments.folder
    job = BatchJob(
        str(arguments.engine.resolve()),
        str(folder / f"out-{arguments.worker}.parquet"),
        str(folder),
        task="classification",
        preprocess=state_preprocessing("imagenet"),
        device=device,
        key="bench",
    )
    PartsFolder(job.results).begin({}, resume=False)
    worker = PartWorker(job, arguments.readers)
    predict = Predictor(job.engine, device=device)
    (images,) = predict.session.inputs
    shape = predict.session.profiles[0][images.name].opt
    batch = np.random.default_rng(1).normal(size=shape).astype(images.dtype)
    names = tuple(f"in/{index:05d}.jpg" for index in range(arguments.files))
    writes = importlib.util.find_spec("pyarrow") is not None
    does: Mapping[str, Callable[[int], int]] = {
        "files": lambda turn: _do_part(worker, names, turn, writes),
        "arrays": lambda turn: _do_batch(predict, {images.name: batch}),
    }
    for do in does.values():
        for turn in range(3):
            do(turn)
    print(json.dumps({"batch": shape[0], "backend": worker_backend(predict), "written": writes}),
          flush=True)  # fmt: skip
    for line in sys.stdin:
        print(json.dumps(_timed(does[line.strip()], arguments.seconds)), flush=True)


def worker_backend(predict: Predictor) -> str:
    """Such as ``torch on cuda``."""
    return f"{predict.session.backend} on {predict.session.device}"


def _do_part(worker: PartWorker, names: Sequence[str], turn: int, writes: bool) -> int:
    """A part, from files to rows."""
    parts = max(1, len(names) // PART)
    index = turn % parts
    part = Part(index, tuple(names[index * PART : (index + 1) * PART]))
    if writes:
        outcome = worker.run(part)
        if outcome.problem is not None or outcome.failed:
            raise SystemExit(outcome.problem or outcome.failure)
        return outcome.images
    return sum(not isinstance(result, str) for _, result in worker.results(part))


def _do_batch(predict: Predictor, batch: Mapping[str, np.ndarray]) -> int:
    """A batch of prepared arrays."""
    predict(batch)
    return len(next(iter(batch.values())))


def _timed(do: Callable[[int], int], seconds: float) -> list[tuple[float, int]]:
    """When each part ended within about `seconds`, and its images."""
    ends: list[tuple[float, int]] = []
    stop, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < stop:
        count = do(turn)
        ends.append((time.perf_counter(), count))
        turn += 1
    return ends


def _build(arguments: argparse.Namespace, folder: Path) -> Path:
    engine = folder / "bench.engine"
    run_recipe(
        Recipe(
            arguments.model,
            precision="fp16",
            backend="torch",
            batch=arguments.batch,
            engine=engine,
            verify=False,
        )
    )
    return engine


def _machine() -> str:
    gpus = [gpu.name for gpu in hardware.gpus()]
    names = ", ".join(f"{gpus.count(name)} x {name}" for name in sorted(set(gpus)))
    return f"{names or 'no GPU'}, {os.cpu_count()} CPUs, {platform.machine()}"


def _command(words: Sequence[str]) -> str:
    """The command line; of files only their names."""
    return " ".join(["python tools/bench_batch.py", *(Path(word).name for word in words)])


def _versions() -> dict[str, str]:
    found = {"trtnet": trtnet.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _append(path: Path, row: Mapping[str, Any]) -> None:
    before = path.read_bytes() if path.exists() else b""
    with atomic_write(path) as file:
        file.write(before + json.dumps(row).encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gpus", type=int, default=2, help="processes, each with a GPU")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--engine", type=Path, help="built elsewhere, of the model in FP16")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=FILES, help="images that are made")
    parser.add_argument("--readers", type=int, help="threads that read images, of a process")
    parser.add_argument("--rows", type=Path, help="a file of JSON lines that gets the row")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, to try the tool")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
