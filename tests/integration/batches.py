"""A small engine, images that need no resizing, what the session itself gives for them, and runs
without Ray."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

import trtnet
from trtnet import nn
from trtnet.pipeline.recipe import Recipe
from trtnet.serving.batch import running
from trtnet.serving.batch.job import BatchJob, Outcome, Part
from trtnet.serving.batch.running import BatchResult, BatchSettings, run_here
from trtnet.serving.batch.worker import PartWorker

BATCH, SIDE = 8, 8
NAMES = ("red", "green", "blue", "none")
COUNT = 50
"""Images of a run without Ray, in parts of 16."""
_HERE = functools.partial(BatchSettings, device="cpu", part_size=16)


def save_engine(path: Path) -> None:
    """A classifier of four classes, of batch 8."""
    rng = np.random.default_rng(4)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    conv.load_state_dict(
        {
            "weight": rng.normal(size=(4, 3, 3, 3)).astype("float32"),
            "bias": rng.normal(size=4).astype("float32"),
        }
    )
    net = trtnet.Network(backend="torch")
    image = net.input("input", (BATCH, 3, SIDE, SIDE))
    net.output("scores", trtnet.mean(trtnet.relu(conv(image)), (2, 3)))
    about = {"class_names": [*NAMES], "preprocessing": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    trtnet.build(net, sidecar=about).save(path)


def save_images(folder: Path, count: int) -> np.ndarray:
    """PNG files of the engine's size; their pixels, uint8 (count, 8, 8, 3), in the order of their
    names."""
    folder.mkdir()
    pixels = np.random.default_rng(7).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        PIL.Image.fromarray(image).save(folder / f"{index:05d}.png", compress_level=0)
    return pixels


def scores_of(engine: Path, pixels: np.ndarray) -> np.ndarray:
    """What a session gives for images that NumPy prepares, batch after batch."""
    prepared = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    arrays = np.ascontiguousarray(prepared.transpose(0, 3, 1, 2))
    with trtnet.Session(engine, device="cpu") as session:
        batches = [arrays[at : at + BATCH] for at in range(0, len(arrays), BATCH)]
        return np.concatenate([session(batch)["scores"] for batch in batches])


def rows_of(results: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(results).to_pylist()
    return rows


def require_equal(rows: Sequence[dict[str, Any]], engine: Path, pixels: np.ndarray) -> None:
    """Each image is there once, in order, with the session's scores."""
    assert [Path(row["path"]).name for row in rows] == [f"{i:05d}.png" for i in range(len(pixels))]
    assert all(row["error"] is None for row in rows)
    assert all(row["scores_shape"] == [4] for row in rows)
    got = np.array([row["scores"] for row in rows], np.float32)
    np.testing.assert_allclose(got, scores_of(engine, pixels), rtol=0, atol=1e-6)


def batch(images: str = "in", results: str = "out.parquet", **settings: Any) -> BatchResult:
    """A run in this process."""
    recipe = settings.pop("recipe", Recipe("m.engine"))
    runner = settings.pop("runner", run_here)
    chosen = _HERE(**settings)
    work = running.find_work(images, results, chosen)
    return running.run_batch(recipe, work, chosen, runner)


def stopping_after(count: int) -> Any:
    """A runner that ends as if it were killed, with `count` parts written."""

    def run(job: BatchJob, parts: list[Part]) -> Iterator[Outcome]:
        worker = PartWorker(job)
        for part in parts[:count]:
            yield worker.run(part)
        raise KeyboardInterrupt

    return run
