"""Holds every model of the zoo against PyTorch, and builds its engines: the full sweep.

    python tools/verify_zoo.py [MODEL ...]

Results go to ``benchmarks/zoo.jsonl`` as they come, one line per model, and at the end to the page
``docs/zoo.md``. Killed and started again, it goes on with the models that have no result of these
versions and these sources; a MODEL that is named is measured in any case. Each has a process of
its own, so that its memory goes back; there are as many as cores, and one for a large model.
Detectors have a sweep of their own, ``tools/verify_detectors.py``.

Needs ``pip install -e ".[rtx,torch,dev]"``; no GPU. See ``tools/zoo_checks.py`` for the checks.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import zoo_page
from zoo_page import Records

import trtnet
from trtnet import zoo
from trtnet.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
CHECKS = Path(__file__).with_name("zoo_checks.py")
LARGE = 150_000_000  # parameters: models that are measured alone, for their memory
# What a result depends on besides the model's own files.
SOURCES = ("trtnet/*.py", "trtnet/building/*.py", "trtnet/graph/*.py", "trtnet/module/*.py",
           "trtnet/network/*.py", "trtnet/nn/*.py", "trtnet/ops/*.py", "trtnet/precision/*.py",
           "trtnet/reference/*.py", "trtnet/tensor/*.py", "trtnet/verification/*.py",
           "weights/random_init.py", "tools/zoo_checks.py", "tools/zoo_exact.py")  # fmt: skip


def versions(backend: str) -> dict[str, str]:
    """Versions of the packages that decide a result."""
    package = trtnet.backend.description(backend).package or backend
    packages = (package, "torch", "torchvision", "numpy")
    return {name: importlib.metadata.version(name) for name in packages}


def sources(name: str) -> str:
    """A hash of the files that decide what comes out for the model `name`."""
    files = {path for pattern in SOURCES for path in ROOT.glob(pattern)}
    _add_files(zoo.get_entry(name).home, files)
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _add_files(module: ModuleType, files: set[Path]) -> None:
    """Adds the file of a module of the zoo, and of those whose classes and functions it uses."""
    path = Path(module.__file__ or "")
    if path in files:
        return
    files.add(path)
    for value in vars(module).values():
        home = getattr(value, "__module__", None) or ""
        if home.startswith("trtnet.zoo.") and home in sys.modules:
            _add_files(sys.modules[home], files)


def key(name: str, backend: str) -> dict[str, Any]:
    """What a result belongs to: one with another key says nothing."""
    return {"backend": backend, "versions": versions(backend), "sources": sources(name)}


def outdated(records: Records, backend: str) -> list[str]:
    """The models that can be measured, and have no result of these versions and sources."""
    return [
        name for name in zoo.list_models(shipped=True)
        if comparable(name)
        and not key(name, backend).items() <= records.get(name, {}).items()
    ]  # fmt: skip


def comparable(name: str) -> bool:
    """Whether the model has a counterpart in PyTorch, and says what its input is. Detectors have a
    sweep of their own, ``tools/verify_detectors.py``: boxes are compared in other ways."""
    entry = zoo.get_entry(name)
    if entry.task == "detection":
        return False
    return entry.has_counterpart() and entry.input_shape is not None


def machine() -> str:
    """The machine in words, for the journal."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def save(records: Records, path: Path) -> None:
    """Writes the journal in one step: a killed sweep leaves the journal of the model before."""
    lines = (json.dumps(records[name]) + "\n" for name in sorted(records))
    with atomic_write(path) as file:
        file.write("".join(lines).encode())


def measure(name: str, backend: str, threads: int) -> dict[str, Any] | None:
    """The record of `name`, measured in another process; ``None`` where that failed."""
    command = [sys.executable, "-W", "ignore", str(CHECKS), name, "--backend", backend]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


class Sweep:
    """Measures models and keeps the journal.

    Attributes:
        records: the journal.
        broken: models without a result.
    """

    def __init__(self, names: Iterable[str], path: Path, backend: str) -> None:
        self.records, self.broken = zoo_page.load(path), list[str]()
        self.path, self.backend = path, backend
        self.costs = {name: self._expected_s(name) for name in names}
        self.start, self.done = time.perf_counter(), list[str]()

    def _expected_s(self, name: str) -> float:
        """As long as the last time, or by its multiply-accumulates."""
        if name in self.records:
            return float(self.records[name]["seconds"])
        return 10 + 1.5e-9 * (zoo.card(name).macs or 0)

    def run(self) -> None:
        """A thread for each core: that many small models at a time, then one large one."""
        cores = os.cpu_count() or 1
        large = {name for name in self.costs if (zoo.card(name).parameters or 0) > LARGE}
        self._measure(self.costs.keys() - large, workers=cores)
        self._measure(large, workers=1)

    def _measure(self, names: Collection[str], workers: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // workers)

        def task(name: str) -> dict[str, Any] | None:
            before = key(name, self.backend)
            record = measure(name, self.backend, threads)
            return record and {**record, **before, "machine": machine(), "date": str(date.today())}

        ordered = sorted(names, key=lambda name: -self.costs[name])
        pool = ThreadPoolExecutor(workers)
        try:
            tasks = {pool.submit(task, name): name for name in ordered}
            for finished in as_completed(tasks):
                self._add(tasks[finished], finished.result())
        finally:
            pool.shutdown(cancel_futures=True)  # when interrupted, not one more

    def _add(self, name: str, record: dict[str, Any] | None) -> None:
        self.done.append(name)
        if record is None:
            self.broken.append(name)
        else:
            self.records[name] = record
            save(self.records, self.path)
        elapsed = time.perf_counter() - self.start
        spent = sum(self.costs[name] for name in self.done)
        left = elapsed * (sum(self.costs.values()) / spent - 1)
        state = "no result" if record is None else "passed" if record["passed"] else "FAILED"
        print(f"{len(self.done):3}/{len(self.costs)} {name:30} {state:9} "
              f"{elapsed / 60:3.0f} min, about {left / 60:.0f} min left", flush=True)  # fmt: skip


def main() -> int:
    """Measures the models; returns 1 if one failed or has no result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: those not measured")
    parser.add_argument(
        "--backend", choices=sorted(trtnet.backend.names(defining=True)), default="rtx"
    )
    parser.add_argument("--journal", type=Path, default=zoo_page.JOURNAL)
    parser.add_argument("--page", type=Path, default=zoo_page.PAGE)
    args = parser.parse_args()
    for name in args.models:  # raises for a name that is none
        if zoo.get_entry(name).task == "detection":
            parser.error(f"{name} is a detector: python tools/verify_detectors.py {name}")
    names = args.models or outdated(zoo_page.load(args.journal), args.backend)
    sweep = Sweep(names, args.journal, args.backend)
    sweep.run()
    zoo_page.write(sweep.records, args.page)
    failed = [name for name, record in sweep.records.items() if not record["passed"]]
    if missing := [name for name in zoo.list_models(shipped=True) if not comparable(name)]:
        print(f"not compared here, see comparable(): {', '.join(missing)}")
    print(f"no result: {', '.join(sweep.broken) or 'none'}; failed: {', '.join(failed) or 'none'}")
    return 1 if sweep.broken or failed else 0


if __name__ == "__main__":
    sys.exit(main())
