"""Gives trtnet many damaged files of each kind, and counts what it does with them.

    python tools/fuzz.py sidecar policy --cases 10000 --journal fuzz.jsonl
    python tools/fuzz.py --cases 10000 --journal fuzz.jsonl      # every kind
    python tools/fuzz.py --cases 10000 --journal fuzz.jsonl --markdown benchmarks/fuzzing.md

Case number N of a kind is always the same: ``--only N`` runs it alone. Results are in the journal
after every hundred cases, from which the next run goes on. The exit status is 1 if a case raised
anything but an error of trtnet, took longer than ten seconds, or needed more than a gigabyte, and
if no file of a kind was accepted.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import pkgutil
import platform
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import fuzzing
from installed import versions

from trtnet.errors import TrtnetError
from trtnet.journal import ResultJournal

Case = Callable[[random.Random], None]
BLOCK = 100  # cases between two writes of the journal
MOST_SECONDS = 10
MOST_MEGABYTES = 1024
_KEPT = 20  # faults of a block whose tracebacks are kept


class FuzzJournal(ResultJournal):
    """The outcomes of blocks of cases."""

    format = "trtnet.fuzz-journal 1"
    what = "tools/fuzz.py"
    another = "another set of cases"


@dataclass
class Outcome:
    """What happened in a block of cases.

    Attributes:
        counts: of cases, by ``accepted``, the class of the refusal, or ``FAULT``.
        slowest, slowest_case: seconds, and the number of the case.
        megabytes: by which the process's peak grew in the block.
        faults: number of the case and traceback.
    """

    counts: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    slowest_case: int = 0
    megabytes: float = 0.0
    faults: list[tuple[int, str]] = field(default_factory=list)


class TooSlow(BaseException):
    """A case that takes too long; no handler of ``Exception`` may keep it."""


def cases() -> dict[str, Case]:
    """The cases of every module in ``tools/fuzzing``, by the kind of file."""
    found: dict[str, Case] = {}
    for module in sorted(pkgutil.iter_modules(fuzzing.__path__), key=lambda m: m.name):
        imported = importlib.import_module(f"fuzzing.{module.name}")
        found |= getattr(imported, "CASES", {})
    return found


def generator(kind: str, number: int) -> random.Random:
    """The source of random numbers of one case."""
    return random.Random(f"{kind} {number}")


def run_block(kind: str, case: Case, first: int, count: int) -> Outcome:
    """The outcome of `count` cases."""
    counts: Counter[str] = Counter()
    outcome, before = Outcome(), _peak_megabytes()
    for number in range(first, first + count):
        started = time.perf_counter()
        name, fault = _run(case, generator(kind, number))
        seconds = time.perf_counter() - started
        counts[name] += 1
        if fault is not None and len(outcome.faults) < _KEPT:
            outcome.faults.append((number, fault))
        if seconds > outcome.slowest:
            outcome.slowest, outcome.slowest_case = seconds, number
    outcome.counts = dict(counts)
    outcome.megabytes = _peak_megabytes() - before
    return outcome


def warm_up(kind: str, case: Case) -> None:
    """Runs other cases until one is accepted: all is then imported, and the valid files exist."""
    for number in range(1, 1000):
        with contextlib.suppress(Exception):
            case(generator(kind, -number))
            return


def _run(case: Case, draw: random.Random) -> tuple[str, str | None]:
    """The outcome of one case, and the traceback of a fault."""
    alarm = getattr(signal, "setitimer", None)
    try:
        if alarm is not None:
            alarm(signal.ITIMER_REAL, MOST_SECONDS)
        try:
            case(draw)
        finally:
            if alarm is not None:
                alarm(signal.ITIMER_REAL, 0)
    except TrtnetError as error:
        str(error)  # must not fail either
        return type(error).__name__, None
    except (Exception, TooSlow):
        return "FAULT", traceback.format_exc(limit=-12)
    return "accepted", None


def _alarm(number: int, frame: object) -> None:
    raise TooSlow(f"more than {MOST_SECONDS} s")


def _peak_megabytes() -> float:
    """The most memory this process has had; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def run_kind(kind: str, case: Case, count: int, journal: FuzzJournal) -> Outcome:
    """The outcome of the first `count` cases of a kind; finished blocks come from the journal."""
    warm_up(kind, case)
    total = Outcome()
    counts: Counter[str] = Counter()
    for first in range(0, count, BLOCK):
        size = min(BLOCK, count - first)
        key = f"{kind} {first} {size}"
        block = journal.get(key, Outcome)
        if block is None:
            block = run_block(kind, case, first, size)
            journal.put(key, asdict(block))
            for number, fault in block.faults:
                print(f"{kind} {number}:\n{fault}", file=sys.stderr)
        counts.update(block.counts)
        total.faults += block.faults
        total.megabytes += block.megabytes
        if block.slowest > total.slowest:
            total.slowest, total.slowest_case = block.slowest, block.slowest_case
    total.counts = dict(counts)
    return total


def row(kind: str, outcome: Outcome) -> str:
    """A row of the table."""
    refused = sum(outcome.counts.values()) - outcome.counts.get("accepted", 0)
    refused -= outcome.counts.get("FAULT", 0)
    cells = [
        kind,
        f"{sum(outcome.counts.values()):,}",
        f"{outcome.counts.get('accepted', 0):,}",
        f"{refused:,}",
        f"{outcome.counts.get('FAULT', 0):,}",
        f"{outcome.slowest:.2f} s (case {outcome.slowest_case})",
        f"{outcome.megabytes:.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| file | cases | accepted | refused | faults | slowest | peak memory grew by |\n"
    "|---|---|---|---|---|---|---|"
)


def page(rows: list[str], count: int) -> str:
    """The page with the table."""
    versions_of = versions("trtnet", "torch", "numpy", "msgspec", "safetensors")
    lines = [
        "# Damaged files",
        "",
        f"`python tools/fuzz.py --cases {count}`: valid files of each kind are damaged and read. A "
        f"fault is an exception that is not trtnet's own, or a case above {MOST_SECONDS} s. Kinds "
        "whose cases expect the refusal themselves count it as accepted.",
        "",
        f"{datetime.date.today()}; Python {platform.python_version()}; {versions_of}.",
        "",
        HEAD,
        *rows,
    ]
    return "\n".join(lines) + "\n"


def is_bad(outcome: Outcome) -> bool:
    """Whether the outcome breaks a promise."""
    return bool(
        outcome.counts.get("FAULT")
        or not outcome.counts.get("accepted")  # a valid file is among them now and then
        or outcome.slowest > MOST_SECONDS
        or outcome.megabytes > MOST_MEGABYTES
    )


def main() -> int:
    """Runs the command line."""
    every: Mapping[str, Case] = cases()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(every)}")
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--only", type=int, metavar="N", help="run this case alone")
    parser.add_argument("--journal", type=Path, help="keeps results, and goes on from them")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the page to write")
    arguments = parser.parse_args()
    unknown = set(arguments.kinds) - every.keys()
    if unknown:
        parser.error(f"unknown kinds {', '.join(unknown)}; there are {', '.join(every)}")
    kinds = arguments.kinds or list(every)
    if arguments.only is not None:
        for kind in kinds:
            every[kind](generator(kind, arguments.only))
        return 0
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _alarm)
    journal = FuzzJournal(arguments.journal, "1")
    print(HEAD)
    outcomes: list[Outcome] = []
    rows: list[str] = []
    for kind in kinds:
        outcomes.append(run_kind(kind, every[kind], arguments.cases, journal))
        rows.append(row(kind, outcomes[-1]))
        print(rows[-1], flush=True)
    if arguments.markdown is not None:
        arguments.markdown.write_text(page(rows, arguments.cases), encoding="utf-8")
    return 1 if any(map(is_bad, outcomes)) else 0


if __name__ == "__main__":
    sys.exit(main())
