"""The folder of Triton's kernels: only the user may write to it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trtnet.errors import ExecutionError
from trtnet.plugins.triton_folder import require_own, triton_folder

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")


def names(monkeypatch: pytest.MonkeyPatch, group: str, members: list[str]) -> None:
    """The user is called ``me``, and the group of the folders so."""
    user, number = os.geteuid(), os.getegid()
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="me", pw_gid=number))
    found = SimpleNamespace(gr_name=group, gr_gid=number, gr_mem=members)
    monkeypatch.setattr(grp, "getgrgid", lambda _: found)
    assert user == os.geteuid()


def test_it_is_made_for_the_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "cache"
    before = os.umask(0)
    try:
        require_own(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    require_own(folder)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o711])
def test_others_may_read(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    require_own(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o1777, 0o770])
def test_others_may_not_write(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    names(monkeypatch, "staff", [])
    tmp_path.chmod(mode)
    texts = (str(tmp_path), "others may write", oct(mode), "chmod 700", "TRITON_CACHE_DIR")
    with raises(ExecutionError, *texts):
        require_own(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("group", "members", "is_own"),
    [("me", [], True), ("me", ["me"], True), ("me", ["me", "you"], False), ("users", [], False)],
)
def test_a_group_of_the_user_alone(
    group: str, members: list[str], is_own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, group, members)
    tmp_path.chmod(0o775)
    if is_own:
        require_own(tmp_path)
    else:
        with pytest.raises(ExecutionError, match="others may write"):
            require_own(tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(ExecutionError, match="others may write"):
        require_own(tmp_path)


def test_a_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    tmp_path.chmod(0o755)
    require_own(tmp_path)
    tmp_path.chmod(0o775)
    with pytest.raises(ExecutionError, match="others may write"):
        require_own(tmp_path)


def test_another_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: Any) -> None:
    user = os.geteuid()
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with raises(ExecutionError, "belongs to another user", f"user {user}", "TRITON_CACHE_DIR"):
        require_own(tmp_path)


@ROOT_ONLY
def test_a_link_to_the_folder_of_another_user(tmp_path: Path) -> None:
    folder, link = tmp_path / "theirs", tmp_path / "cache"
    folder.mkdir(0o700)
    os.chown(folder, 12345, 12345)
    link.symlink_to(folder)
    with pytest.raises(ExecutionError, match="belongs to another user"):
        require_own(link)


def test_a_file_in_its_place(tmp_path: Path, raises: Any) -> None:
    (tmp_path / "cache").write_bytes(b"")
    for path in (tmp_path / "cache", tmp_path / "cache" / "below"):
        with raises(ExecutionError, "cannot be kept", str(path), "TRITON_CACHE_DIR"):
            require_own(path)


def test_where_triton_keeps_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Triton's own manager of the cache finds it."""
    cache = pytest.importorskip("triton.runtime.cache")
    for name, value, wanted in (
        ("TRITON_CACHE_DIR", tmp_path / "own", tmp_path / "own"),
        ("TRITON_CACHE_DIR", None, Path.home() / ".triton" / "cache"),
    ):
        if value is None:
            monkeypatch.delenv(name)
            monkeypatch.delenv("TRITON_HOME", raising=False)
            assert triton_folder() == wanted
        else:
            monkeypatch.setenv(name, str(value))
            assert triton_folder() == wanted
            assert Path(cache.FileCacheManager("key").cache_dir).parent == wanted
