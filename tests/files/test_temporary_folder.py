"""Temporary folders that a killed process leaves are removed by the next one; others stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from trtnet.files.temporary_folder import OWNER, temporary_folder

PREFIX = "trtnet-test-"
_WORKING = """
import sys
from pathlib import Path
from trtnet.files.temporary_folder import temporary_folder
with temporary_folder("trtnet-test-") as folder:
    Path(folder, "image.jpg").write_bytes(b"half")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def worker(place: Path) -> subprocess.Popen[str]:
    """A process that works in a folder, until it gets a line."""
    return subprocess.Popen(
        [sys.executable, "-c", _WORKING],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )  # fmt: skip


def test_a_folder_lasts_as_long_as_the_block(place: Path) -> None:
    with temporary_folder(PREFIX) as first, temporary_folder(PREFIX) as second:
        assert first.parent == second.parent == place
        assert first != second
        Path(first, "in").mkdir()
        Path(first, "in", "file").write_bytes(b"x")
    assert not list(place.iterdir())


def test_what_a_killed_process_leaves(place: Path, worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    left = Path(worker.stdout.readline().strip())
    with temporary_folder(PREFIX):
        assert left.parent == place
        assert Path(left, "image.jpg").exists()  # it is still working
    worker.kill()
    worker.communicate()
    assert left.exists()
    with temporary_folder(PREFIX) as folder:
        assert list(place.iterdir()) == [folder]


def test_what_looks_like_one_stays(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Links, files, folders without an owner's file, and those of another prefix."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Path(elsewhere, OWNER).touch()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}file").touch()
    (place / f"{PREFIX}bare").mkdir()
    linked = place / f"{PREFIX}inner"
    linked.mkdir()
    (linked / OWNER).symlink_to(elsewhere / OWNER)
    other = place / "trtnet-other"
    other.mkdir()
    (other / OWNER).touch()
    before = sorted(place.rglob("*"))
    with temporary_folder(PREFIX):
        pass
    assert sorted(place.rglob("*")) == before
    assert Path(elsewhere, OWNER).exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users")
def test_those_of_others_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = place / f"{PREFIX}theirs"
    theirs.mkdir()
    (theirs / OWNER).touch()
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with temporary_folder(PREFIX):
        assert theirs.exists()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with temporary_folder(PREFIX):
        assert not theirs.exists()


def test_many_begin_and_end_at_the_same_time(place: Path) -> None:
    code = _WORKING.replace("sys.stdin.readline()", "assert Path(folder, 'image.jpg').exists()")
    loop = "for _ in range(20):\n  " + "\n  ".join(code.strip().splitlines()[3:])
    script = "\n".join(code.strip().splitlines()[:3]) + "\n" + loop
    env = {**os.environ, "TMPDIR": str(place)}
    begun = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.DEVNULL)
               for _ in range(4)]  # fmt: skip
    assert [process.wait(120) for process in running] == [0] * 4
    assert time.monotonic() - begun < 120
    assert not list(place.iterdir())
