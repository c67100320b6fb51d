"""What a killed writer leaves is removed by the next one; what a living one uses stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from trtnet import weights
from trtnet.files import atomic_write
from trtnet.files.locks import locked
from trtnet.files.temporary import remove_abandoned, temporary_file

pytestmark = pytest.mark.alone

DAY = 24 * 3600
_WRITING = """
import sys, time
from trtnet.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that is writing a file, until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITING, str(tmp_path / "file")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def write(path: Path, content: bytes = b"new") -> None:
    with atomic_write(path) as file:
        file.write(content)


def test_what_a_killed_writer_left_is_removed(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    writer.kill()
    writer.wait()
    assert [name[-4:] for name in names(tmp_path)] == [".tmp"]
    write(tmp_path / "another")
    assert names(tmp_path) == ["another"]


def test_what_a_living_writer_uses_stays(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    (used,) = tmp_path.iterdir()
    os.utime(used, (0, 0))
    for name in ("file", "another"):
        write(tmp_path / name)
    remove_abandoned(tmp_path, None)
    writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    assert (tmp_path / "file").read_bytes() == b"half"
    assert names(tmp_path) == ["another", "file"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_many_kills_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    state = {"a": np.ones(100_000, np.float32)}
    for number in range(20):
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    weights.save(path, state)
            finally:
                os._exit(1)
        time.sleep(0.0005 * number)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert len(names(tmp_path)) <= 3
    weights.save(path, state)
    assert names(tmp_path) == ["w.safetensors"]


def test_files_of_other_hosts_and_versions_are_kept_for_a_day(tmp_path: Path) -> None:
    """No lock is seen here that a process of another host may have."""
    old = [".trtnet-00000000-0123456789ab.tmp", ".trtnet-0123456789ab.tmp"]
    new = [".trtnet-00000001-0123456789ab.tmp", ".trtnet-0123456789ac.tmp"]
    others = [".trtnet-notes", "file.tmp", ".other-0123456789ab.tmp"]
    for name in (*old, *new, *others):
        (tmp_path / name).touch()
    for name in (*old, *others):
        os.utime(tmp_path / name, (time.time() - 2 * DAY,) * 2)
    write(tmp_path / "file")
    assert names(tmp_path) == sorted(["file", *new, *others])


def test_without_locks_only_the_age_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    with temporary_file(tmp_path / "file") as (_, used):
        own = used.name
    for name, age in ((own, 0), (f"{own[:-5]}x.tmp", 2 * DAY)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)

    def none(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", none)
    write(tmp_path / "file")
    assert names(tmp_path) == sorted([own, "file"])


def test_a_link_or_a_pipe_of_such_a_name_is_left_alone(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes")
    (tmp_path / "kept").touch()
    (tmp_path / ".trtnet-00000000-0.tmp").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / ".trtnet-00000000-1.tmp")
    (tmp_path / ".trtnet-00000000-2.tmp").mkdir()
    write(tmp_path / "file")
    assert len(names(tmp_path)) == 5


def test_nested_writers_of_one_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as outer:
        outer.write(b"outer")
        write(tmp_path / "file", b"inner")
        assert (tmp_path / "file").read_bytes() == b"inner"
    assert (tmp_path / "file").read_bytes() == b"outer"
    assert names(tmp_path) == ["file"]


def test_writers_in_threads_remove_nothing_of_each_other(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def repeat(name: str) -> None:
        try:
            for _ in range(100):
                write(tmp_path / name, name.encode() * 1000)
                assert (tmp_path / name).read_bytes() == name.encode() * 1000
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=repeat, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert names(tmp_path) == ["a", "b", "c", "d"]


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"old")
    for number in range(100):
        timer = threading.Timer(0.0001 * number, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            with atomic_write(path) as file:
                file.write(b"half a")
                file.flush()
                file.write(b" file")
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            pass
        timer.join()
        assert path.read_bytes() in (b"old", b"half a file")
        assert names(tmp_path) == ["file"]


def test_the_locks_file_is_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "file"):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


def test_a_lock_is_one_for_all_spellings_of_a_name(tmp_path: Path) -> None:
    with locked(tmp_path / "Größe"):
        for name in ("größe", "GRÖSSE", "Gro\u0308ße"):
            with pytest.raises(TimeoutError, match="another process"), locked(tmp_path / name, 0):
                pass


def test_a_lock_that_a_killed_process_left_blocks_nobody(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom trtnet.files.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os.abort()"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")], stderr=subprocess.DEVNULL, timeout=60
    )
    assert len(names(tmp_path)) == 1
    with locked(tmp_path / "file", 0):
        pass
    assert names(tmp_path) == []


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """Also while the lock's file is removed and made again all the time."""
    inside, most = 0, 0
    counting = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked(tmp_path / "file"):
                with counting:
                    inside += 1
                    most = max(most, inside)
                remove_abandoned(tmp_path)
                with counting:
                    inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
