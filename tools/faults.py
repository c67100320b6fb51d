"""Tries what must lose nothing: kills, simultaneous writers, interrupts and other signals. Writes
the table of what was found.

    python tools/faults.py                                  # all sections, whole
    python tools/faults.py kills --count 20                 # the first 20 cases of one
    python tools/faults.py session library commands         # three of them
    python tools/faults.py --markdown benchmarks/faults.md  # also writes the page

With ``--journal FILE`` each result is kept as soon as it is there, and a run that was stopped goes
on. A section is a file in ``tools/fault_sections/``, imported when it is run. Processes are forked
and timers set: this runs on Linux and macOS.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fault_sections.base import Row, Section
from run_versions import with_section

import trtnet
from trtnet.files import atomic_write
from trtnet.journal import ResultJournal

SECTIONS = ("kills", "savers", "session", "library", "commands")
_TITLE = "# Faults\n\nWritten by `tools/faults.py`.\n"


class FaultJournal(ResultJournal):
    """The rows of the cases, by section and number."""

    format = "trtnet.fault-journal 1"
    what = "a run of faults"
    another = "another version of trtnet"


def section_class(name: str) -> type[Section]:
    """The section: the class in the file of its name."""
    module = importlib.import_module(f"fault_sections.{name}")
    found: type[Section] = getattr(module, name.capitalize())
    return found


def run(name: str, count: int, journal: FaultJournal) -> list[Row]:
    """The rows of the first `count` cases of a section."""
    with tempfile.TemporaryDirectory(prefix="trtnet-faults-") as folder:
        section = section_class(name)(Path(folder))
        rows: list[Row] = []
        for number in range(count):
            key = f"{name} {number}"
            row: Row | None = journal.get(key, dict[str, Any])
            if row is None:
                row = section.case(number)
                journal.put(key, row)
                if row["lost"]:
                    print(f"{key}: {row['lost']}", file=sys.stderr)
            rows.append(row)
    return rows


def losses(rows: Sequence[Row]) -> int:
    """How many cases lost something."""
    return sum(bool(row["lost"]) for row in rows)


def described(name: str, rows: Sequence[Row]) -> str:
    """A section of the page."""
    kind = section_class(name)
    with tempfile.TemporaryDirectory() as folder:
        lines = kind(Path(folder)).lines(rows)
    verdict = f"**{losses(rows)} losses in {len(rows)} cases.**"
    wrong = sorted({f"- {row['lost']}" for row in rows if row["lost"]})
    system = f"trtnet {trtnet.__version__}, Python {platform.python_version()}, {sys.platform}."
    return "\n".join([*lines, "", verdict, *wrong, "", system, ""])


def main() -> int:
    """Runs the sections that are named; returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--count", type=int, metavar="N", help="cases of each section")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="goes on where it ended")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the page to update")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown or not hasattr(os, "fork"):
        parser.error(f"no section {', '.join(unknown)}" if unknown else "this system cannot fork")
    journal = FaultJournal(arguments.journal, trtnet.__version__)
    lost = 0
    for name in arguments.sections or SECTIONS:
        kind, started = section_class(name), time.monotonic()
        rows = run(name, arguments.count or kind.count, journal)
        lost += losses(rows)
        print(f"{name}: {losses(rows)} losses in {len(rows)} cases, "
              f"{time.monotonic() - started:.0f} s")  # fmt: skip
        if arguments.markdown is not None:
            page = arguments.markdown
            text = page.read_text(encoding="utf-8") if page.exists() else _TITLE
            with atomic_write(page) as file:
                file.write(with_section(text, kind.title, described(name, rows)).encode())
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
