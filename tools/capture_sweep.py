"""Which models' executions the torch engine captures as CUDA graphs, and whether they are right.

    python tools/capture_sweep.py [--device cuda] [--prepare 16] [--engines DIR] [--rows FILE]
                                  [--kind zoo|timm|module ...] [--model NAME ...]
                                  [--precision fp16 ...] [--builderOptimizationLevel 0]
    python tools/capture_sweep.py --device stand-in --prepare 2

The models are all of the zoo, the smallest of each file of timm through ``trtnet.from_torch``, and
modules with loops, top-k and dynamic sizes. Each is opened for several images and for one; each
graph is launched for inputs that it has not seen, and the outputs are compared with the reference's
on the CPU. ``--device stand-in`` needs no GPU: what cannot be captured (copies between host and
device, reads of the host) is noted on a stand-in for one (``tests/engines/doubles``), with
PyTorch's functions in the place of kernels.

Engines and the reference's outputs are made once, in ``--engines``. A row, a line of JSON, is
written after each model; one that crashes, or takes longer than ``--limit``, is a row too. Exit
status 1 where a model is not captured without a reason that is known, or is wrong.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from workers import TaskError, Worker

PROGRAM = Path(__file__).with_name("capture_cells.py")
CAPTURED, WRONG, FAILED = "captured", "wrong", "failed"
KINDS = ("zoo", "timm", "module")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sweep, and prints a summary."""
    options = _parsed(argv)
    from capture_models import names

    models = options.model or names(options.kind or KINDS)
    todo = [(model, precision) for model in models for precision in options.precision or ["fp16"]]
    rows = Sweep(options).run(todo)
    print(_summary(rows))
    return int(any(not _is_fine(row) for row in rows))


class Sweep:
    """Runs models in processes, and writes their rows.

    Args:
        options: of the program.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._lock = options, Lock()
        self._until = time.monotonic() + options.seconds
        self._rows: list[dict[str, Any]] = []

    def run(self, todo: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """The rows of models and precisions."""
        left = iter(todo)
        count = max(1, self._options.prepare)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: self._work(left), range(count)))
        return self._rows

    def _work(self, left: Iterator[tuple[str, str]]) -> None:
        threads = max(1, (os.cpu_count() or 1) // max(1, self._options.prepare))
        command = [sys.executable, str(PROGRAM)]
        worker = Worker(command, {"OMP_NUM_THREADS": str(threads)}, self._options.verbose)
        try:
            while (cell := self._next(left)) is not None:
                self._add(self._row(worker, *cell))
        finally:
            worker.stop()

    def _next(self, left: Iterator[tuple[str, str]]) -> tuple[str, str] | None:
        with self._lock:
            return next(left, None)

    def _row(self, worker: Worker, model: str, precision: str) -> dict[str, Any]:
        options, started = self._options, time.monotonic()
        about = {"model": model, "precision": precision, "device": options.device}
        cache = options.timingCacheFile
        task = {
            **about, "engines": str(options.engines.resolve()),
            "level": options.builderOptimizationLevel,
            "timing_cache": None if cache is None else str(cache.resolve()),
        }  # fmt: skip
        try:
            found = worker.ask(task, options.limit, self._until)
        except TaskError as error:
            found = {"status": FAILED, "reasons": [str(error)]}
        seconds = round(time.monotonic() - started, 1)
        return {**about, **found, "seconds": seconds, "date": str(datetime.date.today())}

    def _add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self._rows.append(row)
            self._options.rows.parent.mkdir(parents=True, exist_ok=True)
            with self._options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(_line(row), flush=True)


def _line(row: Mapping[str, Any]) -> str:
    why = "; ".join(row["reasons"]) or ", ".join(f"{k} {v:g}" for k, v in row["errors"].items())
    name = f"{row['model']} {row['precision']}"
    return f"{row['status']:13} {name:50} {row['seconds']:6} s  {why}"[:240]


def _is_fine(row: Mapping[str, Any]) -> bool:
    """Whether a model is captured and right, or the reason why it cannot be is known."""
    from capture_modules import EXAMPLES

    known = EXAMPLES.get(row["model"].removeprefix("module:"))
    if known is not None and known.reason is not None:
        return any(known.reason in reason for reason in row["reasons"])
    return bool(row["status"] == CAPTURED)


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(row["status"] for row in rows)
    said = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    plain = sum(row["status"] == CAPTURED and not row["specialized"] for row in rows)
    return f"{len(rows)} rows: {said}; of the captured {plain} without a module for fixed shapes"


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "stand-in"), default="cuda")
    add("--model", action="append", metavar="NAME", help="several; default: all")
    add("--kind", action="append", choices=KINDS, help="several; default: all")
    add("--precision", action="append", choices=("fp32", "fp16", "bf16"),
        help="several; default: fp16")  # fmt: skip
    add("--builderOptimizationLevel", type=int, default=0, metavar="N", help="default: 0")
    add("--timingCacheFile", type=Path, metavar="FILE")
    add("--engines", type=Path, default=Path("engines"), metavar="DIR")
    add("--rows", type=Path, default=Path("capture.jsonl"), metavar="FILE",
        help="JSON lines; rows are added; default: capture.jsonl")  # fmt: skip
    add("--prepare", type=int, default=1, metavar="N", help="processes; default: 1")
    add("--limit", type=float, default=180.0, metavar="S", help="of each part of a model")
    add("--seconds", type=float, default=3600.0, help="of the whole run")
    add("--verbose", action="store_true", help="print what the processes print")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
