"""Runs the suite in this environment and writes versions and result to benchmarks/versions.md.

The page has one section per label; a run replaces the section of its own. `nox` calls this::

    python tools/run_versions.py oldest
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "benchmarks" / "versions.md"
OLDEST = ROOT / "tests" / "oldest.txt"
HEAD = """# Versions that the suite ran with

Written by `tools/run_versions.py`; `nox -s oldest` and `nox -s newest` run it. The oldest versions
are those that pyproject.toml promises (tests/oldest.txt).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite and writes the page.

    Returns:
        pytest's exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("label", choices=("oldest", "newest"))
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *given.pytest]
        status = subprocess.run(command, cwd=ROOT).returncode
        section = describe(counted(report), versions(), whole=not given.pytest)
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else HEAD
    PAGE.write_text(with_section(page, given.label, section), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return status


def counted(report: Path) -> dict[str, float]:
    """Passed, failed and skipped tests, and seconds, of a JUnit report."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None, f"{report} holds no testsuite"
    number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    seconds = float(suite.get("time", "0"))
    return {"passed": passed, "failed": failed, "skipped": number["skipped"], "seconds": seconds}


def versions() -> dict[str, str]:
    """Installed version of each distribution that tests/oldest.txt names."""
    found = {}
    for name in re.findall(r"^([\w-]+)==", OLDEST.read_text(encoding="utf-8"), re.MULTILINE):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # tensorrt needs a GPU; tomli is for Python 3.10
    return found


def describe(counts: Mapping[str, float], installed: Mapping[str, str], *, whole: bool) -> str:
    """The section's text: date, machine, result, versions."""
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    result = ", ".join(f"{counts[key]:.0f} {key}" for key in ("passed", "failed", "skipped"))
    names = ", ".join(f"{name} {version}" for name, version in sorted(installed.items()))
    what = "The whole suite" if whole else "A part of the suite"
    return (
        f"{datetime.date.today()}, {system}. {what}: {result}, in {counts['seconds'] / 60:.0f} "
        f"minutes.\n\n{names}.\n"
    )


def with_section(page: str, label: str, text: str) -> str:
    """The page with the section of `label` replaced, or added at its end."""
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    kept = [section for section in sections if not section.startswith(f"## {label}\n")]
    parts = sorted([*kept, f"## {label}\n\n{text}"], reverse=True)  # oldest, newest
    return "\n\n".join(part.rstrip("\n") for part in [head, *parts]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
