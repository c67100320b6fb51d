"""How fast sessions of the torch backend run models, against the best that PyTorch can do.

    python tools/bench_zoo.py [--model NAME ...] [--batch 1 --batch 64] [--precision fp16 ...]
                              [--prepare 8] [--seconds 540] [--builderOptimizationLevel 5]
    python tools/bench_zoo.py --page

Models are the zoo's names, or ``timm:NAME``. All candidates of a model and a batch take turns in
one process; both sides have the same seeded weights, and errors are those against the same model
in float64, on the same images, in the same run. A row (a line of JSON) is written after each model
and batch; what fails is a row with the reason. ``--page`` makes the page of all rows there are, of
several runs too.

TensorRT defines the networks. ``--engines DIR`` keeps weights and engines, and is taken to a
machine without TensorRT.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from bench_options import add_options, complete_options
from bench_zoo_page import best_ratio, page, read_rows, summary
from workers import STARTING, TaskError, Worker

from trtnet.files import atomic_write

MODELS = (
    "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0",
    "efficientnet_v2_s", "densenet121", "regnet_y_400mf", "shufflenet_v2_x1_0", "inception_v3",
    "vgg16", "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t",
    "deeplabv3_resnet50", "fcn_resnet101", "unet", "timm:resnet50d", "timm:convnextv2_tiny",
    "timm:deit3_small_patch16_224", "timm:mobilenetv4_conv_medium", "timm:efficientformerv2_s1",
)  # fmt: skip
ROWS = Path("benchmarks/zoo_h200.jsonl")
AUTOTUNE_LIMIT_S = 900.0
PREPARE_SHARE = 0.6  # of the time of a run that measures too
PREPARED = "prepared.json"
WORKER = Path(__file__).with_name("bench_zoo_cells.py")
LOST = ("weights", "timing", "checking", STARTING)  # without these no tool has a row


@dataclass
class Run:
    """A run of the tool.

    Attributes:
        tool: the program, as its rows name it.
        program: what its processes run.
        lost: parts of a task without which there is no row.
        processes: how many compiled at a time.
        cold: of each cell and way, the seconds that compiling took with an empty cache.
        skip: of each cell and candidate, why it is not tried again.
    """

    tool: ClassVar[str] = "tools/bench_zoo.py"
    program: ClassVar[Path] = WORKER
    lost: ClassVar[tuple[str, ...]] = (*LOST, "float64", "engine")

    options: argparse.Namespace
    settings: dict[str, Any]
    until: float
    processes: int = 1
    cold: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)
    skip: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    def cells(self) -> list[dict[str, Any]]:
        """What is measured, in order: all of one model together."""
        o = self.options
        return [{"model": model, "batch": batch, "precision": precision}
                for model in o.model for precision in o.precision for batch in o.batch]  # fmt: skip

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.until

    def worker(self, share: int = 1) -> Worker:
        """A process for tasks, with its `share` of the processors."""
        paths = [str(self.program.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths)}
        if self.options.cache is not None:
            folder = self.options.cache.resolve()
            environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
            environment["TRITON_CACHE_DIR"] = str(folder / "triton")
        if share > 1:
            threads = str(max((os.cpu_count() or 1) // share, 1))
            environment["OMP_NUM_THREADS"] = environment["TORCHINDUCTOR_COMPILE_THREADS"] = threads
        return Worker([sys.executable, str(self.program)], environment, echo=self.options.verbose)

    def ask(self, worker: Worker, action: str, cell: Mapping[str, Any], **changes: Any) -> Any:
        """The answer of `worker` to a task. A candidate that ends the process or takes too long is
        left out from then on, and the task is given again.

        Raises:
            TaskError: it cannot be done even so.
        """
        skip = self.skip.setdefault(key_of(cell), {})
        settings = {**self.settings, **changes}
        task = {"do": action, "cell": cell, "settings": settings, "skip": skip}
        limit = self.options.setup_limit
        if is_tuned(cell, settings):
            limit = max(limit, AUTOTUNE_LIMIT_S)
        while True:
            try:
                return worker.ask(task, limit, self.until)
            except TaskError as error:
                is_lost = error.doing.split()[0] in self.lost or error.doing in skip
                if is_lost or self.is_over():
                    raise
                skip[error.doing] = error.reason


def key_of(cell: Mapping[str, Any]) -> tuple[str, ...]:
    """A cell as a key."""
    return tuple(str(cell[name]) for name in ("model", "batch", "precision"))


def is_tuned(cell: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the cell is also compiled with max-autotune."""
    return f"{cell['model']}@{cell['batch']}" in settings["max_autotune"]


def prepare(run: Run) -> None:
    """Defines networks and fills the compilers' cache in several processes, then compiles with
    max-autotune in one, alone: it chooses by timing."""
    order = {batch: place for place, batch in enumerate(run.options.batch)}
    cells = sorted(run.cells(), key=lambda cell: order.get(cell["batch"], -1))
    locks = {cell["model"]: Lock() for cell in cells}
    fill = {"peers": ["compile"], "max_autotune": []}

    def make(worker: Worker, cell: Mapping[str, Any]) -> None:
        with locks[cell["model"]]:  # the weights and networks of a model are made once
            run.ask(worker, "define", cell)
        if "compile" in run.options.peer:
            compile_one(run, worker, cell, fill)

    started = time.monotonic()
    in_parallel(run, run.options.prepare, cells, make)
    if run.options.device == "cuda":
        forget_choices(run)
    tuned = [cell for cell in cells if is_tuned(cell, run.settings)]
    in_parallel(run, 1, tuned, lambda worker, cell: compile_one(run, worker, cell, {"peers": []}))
    keep_prepared(run)
    say(f"prepared in {time.monotonic() - started:.0f} s")


def prepare_as_asked(run: Run) -> None:
    """Takes over what earlier calls prepared, and prepares with as many processes as the options
    say, in a share of the time where the run measures too."""
    options = run.options
    recall_prepared(run)
    if not options.prepare:
        return
    end, run.processes = run.until, options.prepare
    if not options.prepare_only:
        run.until = time.monotonic() + PREPARE_SHARE * options.seconds
    prepare(run)
    run.until = end


def keep_prepared(run: Run) -> None:
    """Keeps beside the cache what preparing said, for the next call."""
    if run.options.cache is not None:
        run.options.cache.mkdir(parents=True, exist_ok=True)
        said = [[list(key), run.cold[key], run.skip.get(key, {}), run.options.prepare]
                for key in run.cold]  # fmt: skip
        with atomic_write(run.options.cache / PREPARED) as file:
            file.write(json.dumps(said).encode())


def recall_prepared(run: Run) -> None:
    """Takes over what an earlier call has prepared in this cache."""
    path = run.options.cache / PREPARED if run.options.cache is not None else None
    if path is not None and path.exists():
        for key, cold, skip, count in json.loads(path.read_text()):
            run.cold[tuple(key)], run.skip[tuple(key)] = cold, skip
            run.processes = count


def compile_one(
    run: Run, worker: Worker, cell: Mapping[str, Any], changes: Mapping[str, Any]
) -> None:
    """Fills the cache for one cell, and keeps what it says."""
    found = run.ask(worker, "compile", cell, **changes)
    cold = {name: seconds for name, (seconds, cache) in found["seconds"].items() if cache == "cold"}
    run.cold.setdefault(key_of(cell), {}).update(cold)
    run.skip.setdefault(key_of(cell), {}).update(found["failed"])


def in_parallel(
    run: Run, count: int, cells: Iterable[Mapping[str, Any]],
    task: Callable[[Worker, Mapping[str, Any]], object],
) -> None:  # fmt: skip
    """Has `count` processes do a task for each cell; what fails is said, and left to the row."""
    todo = iter(list(cells))

    def work(worker: Worker) -> None:
        try:
            for cell in todo_of():
                try:
                    task(worker, cell)
                except TaskError as error:
                    say(f"{' '.join(key_of(cell))}: {error}")
        finally:
            worker.stop()

    def todo_of() -> Iterable[Mapping[str, Any]]:
        while not run.is_over():
            try:
                yield next(todo)
            except StopIteration:
                return

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, [run.worker(count) for _ in range(count)]))


def forget_choices(run: Run) -> None:
    """Deletes what Inductor chose by timing while other processes used the GPU: it chooses again,
    alone, and only this is repeated."""
    if run.options.cache is None:
        import torch._inductor.runtime.cache_dir_utils as places

        folder = Path(places.cache_dir())
    else:
        folder = run.options.cache / "inductor"
    for file in folder.rglob("*.best_config"):
        file.unlink()


def measure(run: Run) -> list[dict[str, Any]]:
    """The rows of all cells for which there is time; each is written at once. None is begun in less
    time than the longest so far took."""
    rows, longest, worker = [], 0.0, run.worker()
    try:
        for cell in run.cells():
            if time.monotonic() + longest >= run.until:
                say(f"no time for {' '.join(key_of(cell))}")
                continue
            started = time.monotonic()
            try:
                found = run.ask(worker, "measure", cell)["rows"]
            except TaskError as error:
                if run.is_over():
                    say(f"no time for {' '.join(key_of(cell))}")
                    continue
                found = [{**cell, "failed": str(error), "candidates": [], "best_peer": None,
                          "level": level} for level in run.settings["levels"]]  # fmt: skip
            seconds = time.monotonic() - started
            longest = max(longest, seconds)
            for row in found:
                complete(run, row, seconds)
                append(run.options.rows, row)
                say(summary(row))
            rows += found
    finally:
        worker.stop()
    return rows


def complete(run: Run, row: dict[str, Any], seconds: float) -> None:
    """Adds what the run knows of a row."""
    cold = run.cold.get(key_of(row), {})
    for candidate in row["candidates"]:
        if candidate["name"] in cold:
            candidate["cold_setup_s"] = cold[candidate["name"]]
            candidate["cold_processes"] = run.processes
    row["seconds"] = round(seconds, 1)
    row["date"] = str(datetime.date.today())
    row["command"] = shlex.join(["python", run.tool, *run.options.argv])


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a line to the file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def write_page(rows: Path) -> Path:
    """Writes the page of a file of rows beside it."""
    path = rows.with_suffix(".md")
    with atomic_write(path) as file:
        file.write(page(read_rows(rows), rows.as_posix()).encode())
    return path


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """:class:`bench_zoo_cells.Settings` of the options, as JSON values."""
    cache = options.timingCacheFile
    return {
        "engines": str(options.engines.resolve()), "device": options.device,
        "peers": options.peer, "max_autotune": options.max_autotune, "layouts": options.layouts,
        "cudnn_benchmark": options.cudnn_benchmark, "rounds": options.rounds,
        "cell_seconds": options.cell_seconds, "largest": max(64, *options.batch),
        "levels": options.builderOptimizationLevel or [None], "reopen": options.reopen,
        "timing_cache": None if cache is None else str(cache.resolve()),
    }  # fmt: skip


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, MODELS, ROWS)
    add = parser.add_argument
    add("--batch", action="append", type=int, metavar="N", help="several; default: 1 and 64")
    add("--precision", action="append", metavar="P", help="several; default: fp16")
    add(
        "--layouts",
        choices=("auto", "both"),
        default="auto",
        help="channels_last for convolutional networks and contiguous for others, or both for all",
    )
    add(
        "--reopen",
        action="store_true",
        help="open the session once more, with the timing cache that it has filled: what it takes",
    )
    options = parser.parse_args(argv)
    options.batch = options.batch or [1, 64]
    options.precision = options.precision or ["fp16"]
    complete_options(parser, options, argv, MODELS, ROWS)
    if options.reopen and options.timingCacheFile is None:
        parser.error("--reopen: --timingCacheFile too, or the session opens as the first time")
    return options


def main(argv: Sequence[str]) -> int:
    """Runs the command line; the exit status is 1 where a row has no ratio."""
    options = parsed(argv)
    failed = False
    if not options.page:
        run = Run(options, settings_of(options), time.monotonic() + options.seconds)
        prepare_as_asked(run)
        if options.prepare_only:
            return 0
        failed = any(best_ratio(row) is None for row in measure(run))
    say(f"wrote {write_page(options.rows)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
