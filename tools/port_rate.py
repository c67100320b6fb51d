"""Which models of timm and torchvision define networks through ``trtnet.from_torch``, unmodified.

    python tools/port_rate.py [--files | --imports] [--only PATTERN] [--workers 2] [--journal FILE]

Every entry point with at most 30 million parameters is tried, at the smallest size that it
accepts: its definition is read back from the real ``INetworkDefinition`` and executed in float64
against the module in float64. With ``--files`` the smallest variant of each module file is tried
further: an RTX engine is built, the batch and the size of the images are made dynamic. With
``--imports`` these variants, of classification and segmentation, are ported by changing nothing
but the imports of their files, and compared with the originals.

Results go to a journal as they come, one line per model; started again, it goes on with the models
that have no result of these versions. ``tools/port_rate_page.py`` writes the page.

Needs ``pip install -e ".[rtx,torch,dev]"``; no GPU. The checks: ``tools/port_rate_checks.py``,
``tools/port_imports_check.py``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock
from typing import Any

from port_rate_models import Candidate, candidates

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(__file__).parent
JOURNAL = ROOT / "benchmarks" / "port_rate.jsonl"
BATCH = 12  # models of one process: importing PyTorch takes longer than most models
LIMIT_S = 300  # of one model


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    packages = ("timm", "torch", "torchvision", "tensorrt-rtx")
    return {name: importlib.metadata.version(name) for name in packages}


def recorded(journal: Path, kinds: str) -> set[str]:
    """Names of the models that have a result of these versions; `kinds` is that of the checks."""
    lines = journal.read_text().splitlines() if journal.is_file() else []
    rows = map(json.loads, lines)
    now = versions()
    return {row["name"] for row in rows if row["versions"] == now and row["checks"] == kinds}


def is_portable(file: str) -> bool:
    """Whether the models of a module file are ported: those of timm, and of torchvision those for
    classification and segmentation."""
    others = ("detection", "optical_flow", "video", "quantization")
    return not any(f"/{kind}/" in file for kind in others)


def batches(wanted: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    """Candidates in groups of one process each."""
    group: list[Candidate] = []
    for candidate in wanted:
        group.append(candidate)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


class Sweep:
    """Runs the checks in processes, and appends their results to the journal.

    Args:
        journal: the file.
        checks: ``"definition"``, ``"file"`` or ``"imports"``.
    """

    def __init__(self, journal: Path, checks: str) -> None:
        self._journal, self._checks, self._lock = journal, checks, Lock()
        self._about = {"versions": versions(), "checks": checks}

    def run(self, group: list[Candidate]) -> None:
        """Checks a group; a model that ends its process is recorded, and the others go on."""
        left = list(group)
        while left:
            done = self._process(left)
            if done < len(left):  # the one that it was at
                reason = f"no result in {LIMIT_S} s, or the process ended"
                self._record({**left[done].row(), "status": "refused", "reason": reason})
            left = left[done + 1 :]

    def _process(self, group: list[Candidate]) -> int:
        """How many of the group gave a result."""
        file = "port_imports_check.py" if self._checks == "imports" else "port_rate_checks.py"
        arguments = [str(LIMIT_S)] if self._checks == "imports" else [self._checks, str(LIMIT_S)]
        command = [sys.executable, "-W", "ignore", str(TOOLS / file), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL, env=environment) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("".join(f"{json.dumps(c.row())}\n" for c in group))
            process.stdin.close()
            done = 0
            for line in process.stdout:
                self._record(json.loads(line))
                done += 1
        return done

    def _record(self, row: dict[str, Any]) -> None:
        with self._lock, self._journal.open("a") as file:
            file.write(json.dumps({**row, **self._about}) + "\n")
        shown = row.get("error", row.get("reason", ""))
        print(f"{row['status']:8} {row['name']:45} {shown}"[:150], flush=True)


def main() -> None:
    """Parses the command line, runs what is left, prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--files", action="store_true", help="one variant per module file, further")
    kind.add_argument("--imports", action="store_true", help="one variant per module file, ported")
    parser.add_argument(
        "--only", default="*", help="shell pattern over names such as timm:resnet18"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    options = parser.parse_args()
    checks = "file" if options.files else "imports" if options.imports else "definition"
    done = recorded(options.journal, checks)
    every = candidates(per_file=checks != "definition")
    if checks == "imports":
        every = [c for c in every if is_portable(c.file)]
    wanted = [c for c in every if fnmatchcase(c.name, options.only) and c.name not in done]
    print(f"{len(wanted)} models, {len(done)} recorded", flush=True)
    started = time.perf_counter()
    sweep = Sweep(options.journal, checks)
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(sweep.run, batches(wanted)))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
