"""How many workers a run has, on which resources; what a command says without Ray."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet.cli.main import main
from trtnet.errors import ExecutionError, UsageError
from trtnet.serving.batch.images import FoundImage
from trtnet.serving.batch.job import Part, parts_of
from trtnet.serving.ray.cluster import pool_of, run_batch


@pytest.mark.parametrize(
    ("nodes", "gpus", "workers", "wanted"),
    [
        ([{"CPU": 32, "GPU": 2}], None, None, (2, 1, 16)),
        ([{"CPU": 32, "GPU": 2}], 1, None, (1, 1, 16)),
        ([{"CPU": 32, "GPU": 2}], 0, None, (32, 0, 1)),
        ([{"CPU": 32, "GPU": 2}], None, 4, (4, 0, 8)),
        ([{"CPU": 1, "GPU": 2}], None, None, (2, 1, 1)),
        ([{"CPU": 16, "GPU": 1}, {"CPU": 8}, {"CPU": 24, "GPU": 4}], None, None, (5, 1, 6)),
        ([{"CPU": 3}, {"CPU": 5}], None, 3, (3, 0, 2)),
        ([{"CPU": 2}], None, None, (2, 0, 1)),
    ],
)
def test_workers_fit(nodes: Any, gpus: Any, workers: Any, wanted: Any) -> None:
    assert pool_of(nodes, gpus, workers) == wanted


@pytest.mark.parametrize(
    ("nodes", "gpus", "workers", "text"),
    [
        ([{"CPU": 4}], 1, None, "there are not 1 GPUs"),
        ([{"CPU": 4}], None, 5, "5 workers"),
        ([{"CPU": 4, "GPU": 4}], 2, 2, "on GPUs or on CPUs"),
        ([{"CPU": 4}, {"GPU": 0}], 5, None, "at most 0"),
    ],
)
def test_workers_that_do_not_fit(nodes: Any, gpus: Any, workers: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        pool_of(nodes, gpus, workers)


def test_parts_hold_all_images_once() -> None:
    images = [FoundImage(f"{i}.png", 1, 2) for i in range(10)]
    parts = parts_of(images, 4)
    assert [len(part.names) for part in parts] == [4, 4, 2]
    assert [name for part in parts for name in part.names] == [image.name for image in images]
    assert [part.index for part in parts] == [0, 1, 2]
    assert Part.from_json(parts[1].as_json()) == parts[1]


def stand_in_for_ray(monkeypatch: pytest.MonkeyPatch, init: Callable[..., object]) -> None:
    ray = types.SimpleNamespace(is_initialized=lambda: False, init=init, data=None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", types.SimpleNamespace())


@pytest.mark.parametrize(
    ("images", "results", "text"),
    [
        ("nowhere", "new.parquet", "there is no"),
        ("empty", "new.parquet", "there are no images"),
        ("in", "new.csv", "no name of results"),
        ("in", "old.parquet", "old.parquet is there already"),
    ],
)
def test_no_cluster_is_started_for_what_is_refused(
    images: str, results: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "old.parquet").write_bytes(b"hours of work")
    stand_in_for_ray(monkeypatch, lambda **_: pytest.fail("a cluster is started"))
    with pytest.raises(UsageError, match=text):
        run_batch("m.engine", tmp_path / images, tmp_path / results)
    assert (tmp_path / "old.parquet").read_bytes() == b"hours of work"


@pytest.mark.parametrize("address", ["10.0.0.1:6379", None])
def test_a_cluster_that_is_not_there_is_said(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()

    def init(**_: object) -> None:
        raise ConnectionError("Could not connect")

    stand_in_for_ray(monkeypatch, init)
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ExecutionError, match="Could not connect") as caught:
        run_batch("m.engine", tmp_path, tmp_path / "out.parquet")
    assert (address or "Ray cannot start") in str(caught.value)


def test_the_command_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = trtnet.Network(backend="torch")
    net.output("y", trtnet.relu(net.input("x", (1, 3, 8, 8))))
    trtnet.build(net).save("m.engine")
    Path("in").mkdir()
    real = builtins.__import__

    def without_ray(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    assert main(["batch", "m.engine", "--images", "in", "-o", "out.parquet"]) == 2
    said = capsys.readouterr().err
    assert "runs over many images need Ray" in said
    assert "[ray]" in said
    assert not Path("out.parquet.parts").exists()
