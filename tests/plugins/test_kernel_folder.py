"""The folder of trtnet's own compiled kernels: what others could write is not run."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

import pytest

from trtnet.errors import ExecutionError
from trtnet.plugins import aot_compile
from trtnet.plugins.aot_compile import PtxKernel

GOOD, FOREIGN = (PtxKernel(name, "code", 128, 0) for name in ("good", "foreign"))
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one kernel in it, which somebody else could have put there."""
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path / "cache"))
    aot_compile._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert aot_compile._cached("a", 80, lambda: FOREIGN) == FOREIGN
        assert aot_compile._cached("a", 80, lambda: GOOD) == FOREIGN  # it is taken
    return tmp_path / "cache" / "kernels"


def test_it_is_made_for_the_user_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o1777])
def test_one_that_others_may_write_to_is_not_used(mode: int, folder: Path) -> None:
    folder.chmod(mode)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in "abc":  # said once
            assert aot_compile._cached(name, 80, lambda: GOOD) == GOOD
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (text,) = (str(warning.message) for warning in caught)
    for part in (str(folder), "others may write", oct(mode), f"chmod 700 {folder}", "TRTNET_CACHE"):
        assert part in text
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    folder.chmod(0o700)
    assert aot_compile._cached("a", 80, lambda: GOOD) == FOREIGN


def test_one_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.warns(RuntimeWarning, match="belongs to another user .*name a folder of your own"):
        assert aot_compile._cached("a", 80, lambda: GOOD) == GOOD


@ROOT_ONLY
def test_a_link_to_another_users_folder(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "theirs")
    os.chown(tmp_path / "theirs", 12345, 12345)
    folder.symlink_to(tmp_path / "theirs")
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert aot_compile._cached("a", 80, lambda: GOOD) == GOOD


def test_a_folder_that_cannot_be_made_costs_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(aot_compile.CACHE, str(tmp_path / "file"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert aot_compile._cached("a", 80, lambda: GOOD) == GOOD


def test_names_of_folders_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "a\x1b[31m"
    monkeypatch.setenv(aot_compile.CACHE, str(odd))
    (odd / "kernels").mkdir(parents=True)
    (odd / "kernels").chmod(0o777)
    with pytest.warns(RuntimeWarning) as caught:
        aot_compile._cached("a", 80, lambda: GOOD)
    assert "\x1b" not in str(caught[0].message)


def test_triton_s_own_folder_is_looked_at_before_it_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton would take what is in it for the compiled kernel."""
    triton = pytest.importorskip("triton")

    @triton.jit
    def nothing(x):  # type: ignore[no-untyped-def]
        pass

    theirs = tmp_path / "triton"
    theirs.mkdir()
    theirs.chmod(0o777)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(theirs))
    with pytest.raises(ExecutionError, match="Triton would load kernels"):
        aot_compile.compile_triton(nothing, {"x": "*fp32"}, {}, (4, 1), 90)
    assert not [*theirs.iterdir()]
