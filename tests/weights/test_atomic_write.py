"""A full disk, a kill or an error in mid-write leaves the old file as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from trtnet.errors import WeightsError
from trtnet.files import atomic_write
from trtnet.weights import load, save

pytestmark = pytest.mark.alone


def test_the_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"half of the n", "not bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "file"):
        pass
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", [".", "fifo", "nowhere/w.safetensors"])
def test_places_where_no_file_can_be_written(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        save(tmp_path / name, {"a": np.ones(1)})
    assert "fix: " in str(caught.value)
    assert os.listdir(tmp_path) == ["fifo"]


_LIMITED = """
import resource, signal, sys, numpy as np
from trtnet.weights import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save(sys.argv[1], {"a": np.ones(1_000_000, np.float32)})
"""


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, {"old": np.ones(3)})
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "w.safetensors cannot be written" in done.stderr
    assert "free 4.0 MB" in done.stderr
    assert list(load(path)) == ["old"]
    assert os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("call", ["posix_fallocate", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "w.safetensors"
    save(path, {"old": np.ones(3)})
    monkeypatch.setattr(os, call, full)
    with pytest.raises(WeightsError, match="No space left"):
        save(path, {"new": np.ones(3)})
    assert list(load(path)) == ["old"]
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_disk_that_fails_at_the_flush_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


_KILLED = """
import os, signal, sys, numpy as np
import trtnet.weights.safetensors_writer as writer

plain = writer.raw_bytes

def deadly(array):
    if array.size == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(array)

writer.raw_bytes = deadly
writer.save(sys.argv[1], {"a": np.ones(1_000_000, np.float32), "b": np.ones(10, np.float32)})
"""


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, {"old": np.ones(3)})
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", _KILLED, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    leftovers = [entry for entry in tmp_path.iterdir() if entry != path]
    assert [entry.suffix for entry in leftovers] == [".tmp"]
    assert leftovers[0].stat().st_size >= 4_000_000  # it was killed in mid-write indeed


def test_saving_makes_no_second_copy_of_the_weights(tmp_path: Path) -> None:
    plain = np.ones(2_000_000, np.float32)
    strided = np.ones((2, 500_000), np.float32)[:, ::2]  # 2 MB, copied while it is written
    state = {"a": plain, "b": plain, "c": strided, "d": strided}
    tracemalloc.start()
    try:
        save(tmp_path / "w.safetensors", state)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5e6  # bytes; the file has 20 MB
