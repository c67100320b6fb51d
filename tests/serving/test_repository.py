"""Models are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trtnet.errors import BuildError, UsageError
from trtnet.serving.triton import repository as room
from trtnet.serving.triton.repository import ModelFolder, require_free, write_models

OLD = [ModelFolder(name, {"config.pbtxt": b"old", "1/a": b"old"}) for name in ("a", "b", "c")]
NEW = [ModelFolder(name, {"config.pbtxt": b"new"}) for name in ("a", "b", "c")]


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_repository_is_made_and_models_are_added(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "models"
    write_models(place, OLD)
    (place / "mine").mkdir()
    write_models(place, [ModelFolder("d", {"x": b"1"}), *NEW[:1]])
    assert content(place) == {
        "a/config.pbtxt": b"new", "b/1/a": b"old", "b/config.pbtxt": b"old", "c/1/a": b"old",
        "c/config.pbtxt": b"old", "d/x": b"1",
    }  # fmt: skip
    assert (place / "d" / "1").is_dir()
    assert [path.name for path in place.parent.iterdir()] == ["models"]


@pytest.mark.parametrize("failing", range(6))  # two renames for each of three models
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_where_a_model_cannot_be_put_into_place_all_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    place = tmp_path / "models"
    write_models(place, OLD)
    before, rename, count = content(place), os.rename, 0

    def fails(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == failing + 1:
            raise error
        rename(source, target)

    monkeypatch.setattr(room.os, "rename", fails)
    with pytest.raises((BuildError, KeyboardInterrupt)):
        write_models(place, NEW)
    monkeypatch.undo()
    assert content(place) == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "models"
    with pytest.raises(BuildError, match="cannot be written"):
        write_models(place, [*NEW, ModelFolder("e", {"no/such/folder": b""})])
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    write_models(tmp_path / "models", OLD)
    require_free(tmp_path / "models", ["d"])
    require_free(tmp_path / "nowhere", ["a"])
    with pytest.raises(UsageError, match=r"(?s)has a and c already.*force=True"):
        require_free(tmp_path / "models", ["a", "d", "c"])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        require_free(tmp_path / "file", ["a"])
