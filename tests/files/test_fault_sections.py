"""What the sections of ``tools/faults.py`` find wrong, and what they say of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    from fault_sections import commands

INTERRUPTED, SIGINT = 130, 2
WHOLE = commands.Run(0, 1.0, "", frozenset({"a.engine", "x.npy"}), "")


@pytest.mark.parametrize(
    ("said", "is_pythons"),
    [
        ("interrupted\n", False),
        ('Traceback (most recent call last):\n  File "<frozen site>", line 1, in <module>\n', True),
        ('Traceback (most recent call last):\n  File "<frozen runpy>", line 1, in _get\n'
         '  File "/home/u/trtnet/trtnet/__init__.py", line 7, in <module>\n', True),
        ('Fatal Python error: init_import_site: Failed to import the site module\nTraceback\n'
         '  File "/v/site-packages/_distutils_hack/__init__.py", line 100, in <module>\n', True),
        ('Traceback (most recent call last):\n  File "C:\\trtnet\\__init__.py", line 7\n', True),
        ('Traceback (most recent call last):\n  File "/u/trtnet/__init__.py", line 7\n'
         '  File "/u/trtnet/starting.py", line 30, in begin\n', False),
        ('Traceback (most recent call last):\n  File "/u/trtnet/zoo/unet.py", line 7\n', False),
        ('Traceback (most recent call last):\n  File "/site-packages/torch/a.py", line 7\n', False),
    ],
)  # fmt: skip
def test_a_traceback_of_pythons_own_start(said: str, is_pythons: bool) -> None:
    assert commands.is_pythons(said) == is_pythons


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"status": 0}, []),
        ({"status": -2}, []),  # before any handler was set
        ({"status": -2, "said": "note: done\n"}, []),  # while Python was shutting down
        ({"status": -2, "said": "interrupted\n"}, ["status -2"]),
        ({"files": frozenset({"x.npy", "s.journal"})}, []),  # the run can go on
        ({"status": 1}, ["status 1"]),
        ({"said": "Traceback: trtnet", "status": 1}, []),
        ({"said": 'Traceback\n  File "/u/trtnet/cli/main.py", line 1'}, ["a traceback"]),
        ({"files": frozenset({"x.npy", ".trtnet-1.tmp"})}, ["left .trtnet-1.tmp"]),
        ({"problem": "x.npy is lost"}, ["x.npy is lost"]),
        ({"seconds": 60.0}, ["ended only after 60 s"]),
    ],
)
def test_what_is_wrong_with_the_end_of_a_run(change: dict[str, object], found: list[str]) -> None:
    ended = replace(WHOLE, **{"status": INTERRUPTED, **change})
    assert commands.faults(ended, WHOLE, SIGINT) == found


def test_files_that_a_run_must_leave_as_they_were(tmp_path: Path) -> None:
    inputs, folder = tmp_path / "inputs", tmp_path / "work"
    inputs.mkdir()
    folder.mkdir()
    (inputs / "x.npy").write_bytes(b"x")
    assert commands.file_problem(folder, inputs) == "x.npy is lost"
    (folder / "x.npy").write_bytes(b"y")
    assert commands.file_problem(folder, inputs) == "x.npy has changed"
    (folder / "x.npy").write_bytes(b"x")
    assert commands.file_problem(folder, inputs) == ""
    (folder / "report.json").write_text('{"a": ')
    assert commands.file_problem(folder, inputs).startswith("report.json cannot be read")


def test_a_case_and_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = commands.Commands(tmp_path)
    monkeypatch.setattr(commands.Commands, "_inputs", tmp_path)
    ends = iter([WHOLE, replace(WHOLE, status=1), replace(WHOLE, status=INTERRUPTED)])
    monkeypatch.setattr(commands, "run", lambda *_, **__: next(ends))
    lost = section.case(0)
    assert lost["lost"] == "help, SIGINT after 0.062 s: status 1"
    assert section.case(commands.Commands.count)["lost"] == ""  # the first round again
    lines = section.lines([lost, {**lost, "status": INTERRUPTED, "python": True}])
    assert lines[-1].startswith("| help | SIGINT | 2 | 1: 1, 130: 1 | 1 | ")
    assert lines[2].startswith("In 1 of 2 runs")
