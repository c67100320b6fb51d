"""Opening files: only regular ones, without waiting, within a limit."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from trtnet.errors import PlanError, TrtnetError, UsageError
from trtnet.reading.files import open_regular, read_bytes, read_if_present, size_text


def message(path: str | Path, limit: int | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_bytes(path, "an engine", limit)
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    assert read_bytes(file, "an engine") == file.read_bytes()
    assert read_bytes(file, "an engine", limit=size) == file.read_bytes()
    with open_regular(str(file), "an engine") as opened:
        assert opened.read() == file.read_bytes()


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", "an engine") == b"x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a path")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe") == (
        f"{tmp_path}/pipe is not a regular file\n"
        "  expected: an engine\n"
        "  got: a pipe\n"
        "  fix: copy its content to a file, and name that"
    )


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="sockets with a path")
def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        assert "got: a socket" in message("socket")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/tty", "/dev/null"])
def test_a_device_is_refused(device: str) -> None:
    if not os.path.exists(device):
        pytest.skip(f"no {device}")
    assert "got: a device" in message(device)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert message(tmp_path) == (
        f"{tmp_path} is not a regular file\n"
        "  expected: an engine\n"
        "  got: a directory\n"
        "  fix: name a file in it"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert message(tmp_path / "none") == (
        f"there is no file {tmp_path}/none\n  expected: an engine\n  fix: check the path"
    )
    assert read_if_present(tmp_path / "none", "an engine") is None


def test_only_a_missing_file_counts_as_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        read_if_present(tmp_path, "an engine")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "file/below"])
def test_impossible_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert "cannot be read" in message(path)


def test_a_limit_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(101))
    assert message(tmp_path / "file", 100) == (
        f"{tmp_path}/file is too large\n"
        "  expected: an engine, of at most 100 bytes\n"
        "  got: 101 bytes\n"
        "  fix: check that this file is an engine"
    )


def test_a_file_that_says_it_is_empty_is_limited_too() -> None:
    """Files of the kernel have no size before they are read."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc")
    assert b"Pid:" in read_bytes("/proc/self/status", "a status")
    assert "too large" in message("/proc/self/status", 10)


def test_a_file_larger_than_memory(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        try:
            file.truncate(1 << 46)  # holds nothing, so it takes no room
        except OSError:
            pytest.skip("no files with holes")
    assert "got: 70368744.2 MB" in message(tmp_path / "file")


def test_the_caller_names_the_class_and_the_advice(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="fix: build one") as caught:
        read_bytes(tmp_path / "none", "an engine", error=PlanError, fix="build one")
    assert isinstance(caught.value, TrtnetError)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (9_999, "9999 bytes"), (10_000, "10.0 kB"), (665_204, "665.2 kB"),
     (999_949, "999.9 kB"), (1_000_000, "1.0 MB"), (2_345_600_000, "2,345.6 MB")],
)  # fmt: skip
def test_no_file_has_no_size(count: int, text: str) -> None:
    """A small engine was said to have 0.0 MB."""
    assert size_text(count) == text
