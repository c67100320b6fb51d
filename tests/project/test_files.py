"""The repository's files: lengths, names that every system can have, and the path for readers."""

from __future__ import annotations

import re
import subprocess
from collections import Counter

from sources import ROOT, modules, tracked_files

MOST_LINES = 400
MOST_LINES_TO_READ = 2500
RESERVED = {  # names of devices, with any extension
    *("con", "prn", "aux", "nul"),
    *(f"{device}{number}" for device in ("com", "lpt") for number in range(1, 10)),
}


def lines(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def reading_path() -> list[str]:
    """The files that CONTRIBUTING.md lists between its two marks, in order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(
        r"<!-- reading path -->\n(.*?)<!-- end of reading path -->", text, re.DOTALL
    )
    assert len(blocks) == 1, "CONTRIBUTING.md has one block between the marks of the reading path"
    return re.findall(r"`([\w/]+\.py)`", blocks[0])


def test_how_a_network_is_made_and_checked_is_short_to_read() -> None:
    """All lines count: code, docstrings, comments and blank ones."""
    files = reading_path()
    assert len(files) == len(set(files)) >= 5
    lengths = {file: lines(file) for file in files}
    assert sum(lengths.values()) <= MOST_LINES_TO_READ, lengths


def test_source_files_are_short() -> None:
    long = {
        str(file.relative_to(ROOT)): count
        for files in modules().values()
        for file in files
        if (count := lines(str(file.relative_to(ROOT)))) > MOST_LINES
    }
    assert not long


def test_names_differ_by_more_than_case() -> None:
    """On Windows and macOS names that differ only by case are one file."""
    paths = {parent for name in tracked_files() for parent in every_part(name)}
    twice = [name for name, count in Counter(map(str.casefold, paths)).items() if count > 1]
    assert not twice


def every_part(name: str) -> list[str]:
    """The path and the folders it is in."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def test_windows_can_have_every_name() -> None:
    for name in tracked_files():
        assert not re.search(r'[<>:"\\|?*\x00-\x1f]', name), name
        assert len(name) <= 160, f"{name} is too long below a deep folder (260 characters in all)"
        for part in name.split("/"):
            assert part.split(".")[0].casefold() not in RESERVED, name
            assert not part.endswith((".", " ")), name


def test_git_has_no_symbolic_links() -> None:
    """A Windows clone without the privilege for links gets a text file in their place."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    entries = [entry for entry in listed.stdout.split("\0") if entry]
    assert entries
    assert not [entry for entry in entries if entry.startswith("120000")]
    assert not {"trtnet/zoo", "trtnet/weights"} & set(tracked_files())
