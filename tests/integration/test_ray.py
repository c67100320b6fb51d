"""Runs over many images on Ray: real local clusters, of two workers on CPUs."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import require_equal, rows_of, save_engine, save_images, scores_of

from trtnet.cli.main import main
from trtnet.errors import ExecutionError, UsageError
from trtnet.serving.batch.running import BatchSettings, Progress
from trtnet.serving.ray import Predictor, run_batch

if os.environ.get("TRTNET_INTEGRATION"):  # a skip would be a failure there
    ray: Any = importlib.import_module("ray")
    importlib.import_module("ray.data")
else:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    pytest.importorskip("ray.data", reason="Ray Data is not installed")

COUNT = 2000
PATIENCE = 300.0  # seconds, on a machine that does other things too


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``m.engine`` and 2,000 images in ``in``."""
    folder = tmp_path_factory.mktemp("batch")
    save_engine(folder / "m.engine")
    np.save(folder / "pixels.npy", save_images(folder / "in", COUNT))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster that the tests share, as a user who has started Ray."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the present one."""
    monkeypatch.chdir(place)
    return place


def settings(**changes: Any) -> BatchSettings:
    return BatchSettings(**{"task": "outputs", "part_size": 64, **changes})


def pixels() -> np.ndarray:
    loaded: np.ndarray = np.load("pixels.npy")
    return loaded


def is_alive(worker: str) -> bool:
    """Of ``host:process, backend on device``."""
    process = Path("/proc", worker.partition(",")[0].rpartition(":")[2])
    try:
        return "zombie" not in (process / "status").read_text()
    except OSError:
        return False


def test_a_killed_worker_loses_and_repeats_nothing(here: Path, cluster: None) -> None:
    """The worker of the first part that comes back is killed, with 2,000 images to do."""
    seen: list[Progress] = []

    def told(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 2:
            assert progress.outcome is not None
            process = progress.outcome.place.partition(",")[0].rpartition(":")[2]
            os.kill(int(process), signal.SIGKILL)

    result = run_batch("m.engine", "in", "killed.parquet", workers=2, settings=settings(),
                       told=told)  # fmt: skip
    assert (result.images, result.failed) == (COUNT, 0)
    outcomes = [each.outcome for each in seen if each.outcome is not None]
    assert sorted(each.part for each in outcomes) == [*range(32)]
    assert len({each.place for each in outcomes}) == 3  # another worker came for the killed one
    assert ray.is_initialized()  # what the user started goes on
    require_equal(rows_of(result.results), Path("m.engine"), pixels())


def test_a_killed_driver_goes_on(here: Path, cluster: None) -> None:
    """The command is killed, with its cluster; what it has written is not done again."""
    words = "batch m.engine --images in -o driver.parquet --workers 2 --task outputs --part-size 64"
    folder = Path("driver.parquet.parts")
    command = [sys.executable, "-m", "trtnet.cli.main", *words.split()]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("part-*.parquet"))) < 3 and time.monotonic() < end:
        time.sleep(0.005)
    driver.kill()
    _, errors = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, errors.decode()
    _wait_for_workers_of(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
    assert 3 <= len(before) < 32
    again: list[int] = []

    def told(progress: Progress) -> None:
        if progress.outcome is not None:
            again.append(progress.outcome.part)
        now = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
        assert now.items() >= before.items()

    result = run_batch("m.engine", "in", "driver.parquet", workers=2,
                       settings=settings(resume=True), told=told)  # fmt: skip
    names = {f"part-{index:08d}.parquet" for index in again}
    assert not names & {*before}
    assert len(names) == len(again) == 32 - len(before)
    assert result.resumed == COUNT - sum(16 if i == 31 else 64 for i in again)
    require_equal(rows_of(result.results), Path("m.engine"), pixels())


def _wait_for_workers_of(folder: Path) -> None:
    """Ray ends the workers of a driver that is gone."""
    import pyarrow.parquet as parquet

    files = list(folder.glob("part-*.parquet"))
    workers = {parquet.read_schema(file).metadata[b"trtnet.worker"].decode() for file in files}
    end = time.monotonic() + PATIENCE
    while any(map(is_alive, workers)):
        assert time.monotonic() < end, "the workers of the killed command go on"
        time.sleep(0.05)


def test_an_engine_that_fails_ends_the_run_in_words(here: Path, cluster: None) -> None:
    Path("bad.engine").write_bytes(Path("m.engine").read_bytes()[:-9])
    with pytest.raises(ExecutionError, match="after 0 of 10 images") as caught:
        run_batch("bad.engine", "in/0000*.png", "bad.parquet", workers=1, settings=settings())
    assert "Traceback" not in str(caught.value)
    assert not Path("bad.parquet").exists()


def test_too_many_gpus_are_refused(here: Path, cluster: None) -> None:
    with pytest.raises(UsageError, match="there are not 64 GPUs"):
        run_batch("m.engine", "in", "gpus.parquet", gpus=64)


def test_a_pipeline_of_ones_own(here: Path, cluster: None) -> None:
    """An engine of batch 8, batches of 12, and a last one of 4: rows stay with their results."""
    prepared = (pixels()[:100].astype(np.float32) / 255 - 0.5) / 0.25
    images = np.ascontiguousarray(prepared.transpose(0, 3, 1, 2), np.float32)

    def with_images(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**batch, "image": images[batch["row"]]}

    found = (
        ray.data.from_items([{"row": row} for row in range(100)])
        .map_batches(with_images, batch_size=12)
        .map_batches(
            Predictor,
            fn_constructor_kwargs={
                "engine": str(here / "m.engine"),
                "inputs": {"input": "image"},
                "device": "cpu",
            },
            compute=ray.data.ActorPoolStrategy(size=2),
            batch_size=12,
            zero_copy_batch=True,
            num_cpus=1,
        )
        .take_all()
    )
    assert sorted(found[0]) == ["row", "scores"]
    got = np.stack([row["scores"] for row in sorted(found, key=lambda row: int(row["row"]))])
    np.testing.assert_allclose(got, scores_of(Path("m.engine"), pixels()[:100]), atol=1e-6)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: None) -> None:
    """docs/ray.md, block after block."""
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "ray.md").read_text()
    names: dict[str, Any] = {"__name__": "ray.md"}
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if kind == "python":
            exec(compile(block, "ray.md", "exec"), names)
            continue
        for line in block.splitlines():
            words = shlex.split(line.replace("python -m trtnet.zoo", "trtnet zoo"))
            assert main(words[1:]) == 0, line
    assert Path("digits.parquet").is_file()
