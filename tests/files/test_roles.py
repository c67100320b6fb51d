"""Which paths are one file, also before it exists; what cannot be written is found before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Place, Use, identity, require_distinct, require_writable

NAMES = ["a", "A", "b", "link", "up", "gone", "hard", "é", "e\u0301", "..", "."]


def world(folder: Path) -> None:
    """Files, folders, links to them, to nothing and to each other."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "b").write_text("b")
    os.link(folder / "b", folder / "hard")
    os.link(folder / "b", folder / "a" / "hard")
    (folder / "link").symlink_to("a")
    (folder / "a" / "link").symlink_to(folder / "b")
    (folder / "a" / "up").symlink_to("..")
    (folder / "gone").symlink_to("a/new")
    (folder / "a" / "gone").symlink_to("../gone")
    (folder / "a" / "b" / "link").symlink_to("link")  # to itself


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
       st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))  # fmt: skip
def test_paths_of_equal_identity_are_one_file(first: list[str], second: list[str]) -> None:
    """Whoever then writes to the one finds it at the other; and nowhere else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder)
        one, other = folder.joinpath(*first), folder.joinpath(*second)
        claimed = identity(one) == identity(other)
        try:
            with open(one, "ab") as file:
                file.write(b"x")
        except OSError:
            return  # a folder, or below a file: nothing can be written there
        if other.exists():
            assert claimed == os.path.samefile(one, other)


def read(path: Path) -> NamedFile:
    return NamedFile("--in", path, Use.READ)


def written(path: Path, place: Place = Place.FOLDER) -> NamedFile:
    return NamedFile("--out", path, Use.WRITE, place=place)


def test_what_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    require_distinct([read(tmp_path / "a"), read(tmp_path / "a"), written(tmp_path / "b")])
    require_distinct([read(tmp_path), written(tmp_path)])
    require_distinct([NamedFile("--journal", tmp_path / "a", Use.UPDATE)])


@pytest.mark.parametrize("use", [Use.READ, Use.WRITE, Use.UPDATE])
@pytest.mark.parametrize("kind", ["same", "symlink", "hard link", "dangling", "folder link"])
def test_what_may_not(tmp_path: Path, use: Use, kind: str) -> None:
    path, other = tmp_path / "f" / "a", tmp_path / "b"
    path.parent.mkdir()
    if kind in ("same", "symlink", "hard link"):
        path.touch()
    if kind == "same":
        other = tmp_path / "f" / ".." / "f" / "a"
    elif kind == "hard link":
        os.link(path, other)
    elif kind == "folder link":
        (tmp_path / "g").symlink_to("f")
        other = tmp_path / "g" / "a"
    else:
        other.symlink_to(path)
    one, two = NamedFile("--one", path, use), NamedFile("--two", other, Use.WRITE)
    for files in ((one, two), (two, one)):
        with pytest.raises(UsageError, match=r"would (be written twice|replace)") as caught:
            require_distinct(files)
        assert "are one file" in str(caught.value)
        assert "--one" in str(caught.value)
        assert "--two" in str(caught.value)


def test_a_picture_in_a_folder_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for name in ("deep/a.JPG", "report.json"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "link.jpg").symlink_to("images/deep/a.JPG")
    folder = NamedFile("--folder", tmp_path / "images", Use.READ, "an image", suffixes=(".jpg",))
    for name in ("images/deep/a.JPG", "link.jpg"):
        with pytest.raises(UsageError, match="would replace an image that --folder reads"):
            require_distinct([folder, written(tmp_path / name)])
    for name in ("images/report.json", "images/new.jpg", "images"):
        require_distinct([folder, written(tmp_path / name)])


def test_names_that_differ_by_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "Größe.json", tmp_path / "GRÖSSE.JSON"
    assert identity(one) != identity(other) or os.name == "nt"
    monkeypatch.setattr("trtnet.files.roles._ignores_case", lambda folder: True)
    assert identity(one) == identity(other)
    assert identity(one) != identity(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("name", "place", "reason"),
    [
        ("nowhere/a", Place.FOLDER, "nowhere does not exist"),
        ("file/a", Place.FOLDER, "file is not a folder"),
        ("file/deeper/a", Place.MADE, "file is not a folder"),
        ("folder", Place.FOLDER, "folder is a directory"),
        ("a\0b", Place.FOLDER, "null"),
        ("x" * 300, Place.FOLDER, "too long"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, place: Place, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"--out: .* cannot be written") as caught:
        require_writable([written(tmp_path / name, place)])
    assert reason in str(caught.value)
    assert "fix: " in str(caught.value)


@pytest.mark.parametrize("code", [28, 30, 13, 122])  # full, read-only, not allowed, over quota
def test_a_folder_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(UsageError, match="cannot be written") as caught:
        require_writable([written(tmp_path / "made" / "a", Place.MADE)])
    assert os.strerror(code) in str(caught.value)
    assert not os.listdir(tmp_path)


def test_a_file_that_is_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table").touch()
    table = NamedFile("--calib-table", tmp_path / "table", Use.UPDATE, place=Place.IF_MISSING)
    journal = NamedFile("--journal", tmp_path / "table", Use.UPDATE, place=Place.APPEND)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    require_writable([table])
    with pytest.raises(UsageError, match=r"--journal: .* cannot be written"):
        require_writable([journal])


def test_a_folder_that_another_output_makes(tmp_path: Path) -> None:
    engine = written(tmp_path / "new" / "deep" / "m.engine", Place.MADE)
    pictures = written(tmp_path / "pictures", Place.FOLDERS)
    for name in ("new/report.json", "new/deep/report.json", "pictures/report.json"):
        require_writable([written(tmp_path / name), engine, pictures])
    with pytest.raises(UsageError, match="does not exist"):
        require_writable([written(tmp_path / "new" / "deep" / "m.engine" / "r.json"), engine])
    assert not os.listdir(tmp_path)
