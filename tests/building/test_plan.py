"""Plans on disk: what a crash, a full disk, a truncated engine or a lying sidecar leads to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtnet.building.plan import FORMAT_VERSION, Plan
from trtnet.errors import BuildError, PlanError

Raises = Callable[..., Any]


def plan(content: bytes, **more: Any) -> Plan:
    stated = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return Plan(content, {"format_version": FORMAT_VERSION, "engine": stated, **more})


OLD = plan(b"old engine", model="old")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    OLD.save(tmp_path / "m.engine")
    return tmp_path / "m.engine"


def files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_round_trip(path: Path) -> None:
    new = plan(
        b"\0new\xff",
        model="é",
        profiles=[{"x": {"min": [1], "opt": [2], "max": [2]}}],
        nothing=None,
    )
    new.save(path)
    assert Plan.load(path) == new
    assert path.read_bytes() == b"\0new\xff"
    assert json.loads(Path(f"{path}.json").read_text())["model"] == "é"
    assert files(path) == ["m.engine", "m.engine.json"]


def test_an_engine_without_a_sidecar(path: Path) -> None:
    Plan(b"bare").save(path)
    assert files(path) == ["m.engine"]
    assert Plan.load(path) == Plan(b"bare")


def test_no_engine(tmp_path: Path, raises: Raises) -> None:
    with raises(PlanError, "there is no file", "nothing.engine", "fix: name an engine file"):
        Plan.load(tmp_path / "nothing.engine")
    (tmp_path / "empty.engine").touch()
    with raises(PlanError, "is empty", "build the engine again"):
        Plan.load(tmp_path / "empty.engine")
    with raises(PlanError, "is not a regular file", "got: a directory"):
        Plan.load(tmp_path)


def test_a_truncated_engine(path: Path, raises: Raises) -> None:
    path.write_bytes(OLD.engine[:-1])
    with raises(PlanError, "m.engine is not the engine", "10 bytes", "9 bytes", "cut short"):
        Plan.load(path)


def test_a_changed_engine(path: Path, raises: Raises) -> None:
    path.write_bytes(b"Old engine")
    with raises(PlanError, "is not the engine that its sidecar describes", "was changed"):
        Plan.load(path)


LYING: list[tuple[bytes, str]] = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"\xff\xfe\x00", "it is not text in UTF-8"),
    (b"[" * 200_000, "it is nested too deeply"),
    (b"[1]", "not a JSON object"),
    (b"{}", "format version None"),
    (b'{"format_version": 2}', "format version 2, not 1"),
    (b'{"format_version": 1}', "does not say the engine's sha256"),
    (b'{"format_version": 1, "engine": {"sha256": 5}}', "wrong value at engine.sha256"),
    (b'{"format_version": 1, "engine": {"sha256": "\\u001b[31m"}}', r"'\x1b[31m'"),
]


@pytest.mark.parametrize(("content", "text"), LYING)
def test_a_lying_sidecar(path: Path, content: bytes, text: str, raises: Raises) -> None:
    Path(f"{path}.json").write_bytes(content)
    with raises(PlanError, "m.engine", text, "fix: "):
        Plan.load(path)


PROFILE = {"min": [1], "opt": [2], "max": [2]}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"profiles": 5}, "wrong value at profiles\n  expected: array | null\n  got: 5"),
    ({"profiles": [None]}, "wrong value at profiles[0]\n  expected: object\n  got: None"),
    ({"profiles": [{"x": {**PROFILE, "min": ["1"]}}]}, "at profiles[0].x.min[0]\n  expected: int"),
    ({"profiles": [{"a b": {**PROFILE, "min": [3]}}]}, "min <= opt <= max, in profiles[0]['a b']"),
    ({"profiles": [{"x": {**PROFILE, "opt": [2**31]}}]}, "opt[0]\n  expected: int <= 2147483647"),
    ({"profiles": [{"x": {"min": [1]}}]}, "missing required field 'opt', in profiles[0].x"),
    ({"preprocessing": "x"}, "wrong value at preprocessing\n  expected: object | null"),
    ({"preprocessing": {"crop_size": [100_000]}}, "more than 100 megapixels, in preprocessing"),
    ({"preprocessing": {"mean": [10**19] * 3}}, "at preprocessing.mean[0]\n  expected: float <="),
    ({"class_names": ["a", 3]}, "wrong value at class_names[1]\n  expected: string\n  got: 3"),
    ({"backend": {"version": "\u0663.1"}}, "wrong value at backend.version"),
    ({"plugins": [{"name": 3, "version": "1"}]}, "wrong value at plugins[0].name"),
    ({"options": {"strip_weights": 1}}, "options.strip_weights\n  expected: true or false"),
    ({"compute_capabilities": [8.9]}, "wrong value at compute_capabilities[0]"),
    ({"precision": []}, "wrong value at precision\n  expected: string | null\n  got: []"),
    ({"calibration": {"items": -1}}, "wrong value at calibration.items\n  expected: int >= 0"),
]


@pytest.mark.parametrize(("more", "text"), WRONG)
def test_a_wrong_entry_is_named(path: Path, more: Any, text: str, raises: Raises) -> None:
    plan(b"engine", **more).save(path)
    said = f"{path}.json cannot be used as a sidecar: "
    with raises(PlanError, said, text, "without a sidecar an engine loads unchecked"):
        Plan.load(path)


@pytest.mark.parametrize("text", ["1e400", "NaN", "-Infinity", "9" * 400])
def test_numbers_that_are_none(path: Path, text: str, raises: Raises) -> None:
    plan(b"engine", unknown=77).save(path)
    sidecar = Path(f"{path}.json")
    sidecar.write_text(sidecar.read_text().replace("77", text))
    with raises(PlanError, "cannot be used as a sidecar: it is not JSON", "fix: "):
        Plan.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a path")
@pytest.mark.parametrize("name", ["m.engine", "m.engine.json"])
def test_pipes_do_not_block(path: Path, name: str, raises: Raises) -> None:
    path.with_name(name).unlink()
    os.mkfifo(path.with_name(name))
    with raises(PlanError, f"{name} is not a regular file", "got: a pipe"):
        Plan.load(path)


def test_a_sidecar_is_only_read(path: Path) -> None:
    """Text that looks like code stays text."""
    code = "__import__('os').remove('m.engine')"
    plan(b"engine", model=code, weights={"__reduce__": code}).save(path)
    assert Plan.load(path).sidecar["model"] == code
    assert path.exists()


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync"])
def test_a_full_disk_leaves_the_old_pair(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, raises: Raises
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, raises(BuildError, "No space left", "fix: free 2.0 MB"):
        patched.setattr(os, call, full)
        plan(bytes(2_000_000)).save(path)
    assert Plan.load(path) == OLD
    assert files(path) == ["m.engine", "m.engine.json"]


@pytest.mark.parametrize("name", [".", "nowhere/m.engine"])
def test_places_where_no_engine_can_be_written(tmp_path: Path, name: str, raises: Raises) -> None:
    with raises(BuildError, "cannot be written", "choose another path"):
        OLD.save(tmp_path / name)


def test_a_sidecar_of_another_engine_is_not_written(path: Path, raises: Raises) -> None:
    for wrong in ({"model": "x"}, {"engine": {"sha256": "?"}}, OLD.sidecar):
        with raises(BuildError, "does not say this engine's sha256", "fix: "):
            Plan(b"new", wrong).save(path)
    assert Plan.load(path) == OLD
