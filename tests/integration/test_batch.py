"""Runs over many images without Ray: parts, tables, what resumes and what does not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from batches import (
    COUNT,
    NAMES,
    batch,
    require_equal,
    rows_of,
    save_images,
    scores_of,
    stopping_after,
)

import trtnet
from trtnet.errors import ExecutionError, UsageError
from trtnet.pipeline.preprocessing import state_preprocessing
from trtnet.pipeline.recipe import InputSpec, Recipe
from trtnet.serving.batch.job import BatchJob, Outcome, Part
from trtnet.serving.batch.parts import PartsFolder
from trtnet.serving.batch.running import run_here
from trtnet.serving.batch.worker import PartWorker
from trtnet.tasks import Classifier, Detector, Segmenter
from trtnet.zoo import get_entry

pytestmark = pytest.mark.usefixtures("pyarrow")


def test_outputs_are_the_sessions(folder: np.ndarray) -> None:
    result = batch(task="outputs")
    assert (result.images, result.failed, result.resumed) == (COUNT, 0, 0)
    require_equal(rows_of(result.results), Path("m.engine"), folder)
    assert not Path("out.parquet.parts").exists()


def test_classes_are_those_of_a_softmax(folder: np.ndarray) -> None:
    rows = rows_of(batch(top=2).results)
    scores = scores_of(Path("m.engine"), folder).astype(np.float64)
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    order = np.argsort(-wanted, axis=1)[:, :2]
    assert [row["classes"] for row in rows] == order.tolist()
    assert [row["names"] for row in rows] == [[NAMES[i] for i in pair] for pair in order]
    got = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(got, np.take_along_axis(wanted, order, 1), atol=1e-6)
    assert {(row["width"], row["height"]) for row in rows} == {(8, 8)}


def test_patterns_and_single_files(folder: np.ndarray) -> None:
    assert batch("in/0000*.png", "ten.parquet").images == 10
    assert [row["path"] for row in rows_of(batch("in/00007.png", "one.parquet").results)] == [
        "in/00007.png"
    ]
    Path("in/notes.txt").write_text("no image")
    assert batch("in/*", "all.parquet").images == COUNT


def test_broken_images_are_rows_with_an_error(folder: np.ndarray) -> None:
    Path("in/00003.png").write_bytes(b"")
    Path("in/00017.png").write_bytes(Path("in/00018.png").read_bytes()[:60])
    result = batch(task="outputs")
    rows = rows_of(result.results)
    failed = [row for row in rows if row["error"]]
    assert result.failed == 2
    assert [row["path"] for row in failed] == ["in/00003.png", "in/00017.png"]
    assert all(row["path"] in row["error"] and row["scores"] is None for row in failed)
    assert result.failure == failed[0]["error"]
    good = np.array([row["scores"] for row in rows if not row["error"]], np.float32)
    kept = np.delete(folder, [3, 17], 0)
    np.testing.assert_allclose(good, scores_of(Path("m.engine"), kept), atol=1e-6)


def test_a_run_goes_on_where_it_was(folder: np.ndarray) -> None:
    with pytest.raises(KeyboardInterrupt):
        batch(task="outputs", runner=stopping_after(2))
    parts = sorted(Path("out.parquet.parts").glob("part-*.parquet"))
    assert len(parts) == 2
    assert not Path("out.parquet").exists()
    with pytest.raises(UsageError, match="was not finished"):
        batch(task="outputs")
    parts[1].write_bytes(parts[1].read_bytes()[:-20])  # damaged: it is done again
    before = parts[0].stat().st_mtime_ns
    seen: list[int] = []

    def counting(job: BatchJob, left: list[Part]) -> Iterator[Outcome]:
        seen.extend(part.index for part in left)
        assert parts[0].stat().st_mtime_ns == before
        yield from run_here(job, left)

    result = batch(task="outputs", resume=True, runner=counting)
    assert seen == [1, 2, 3]
    assert result.resumed == 16
    require_equal(rows_of(result.results), Path("m.engine"), folder)
    again = batch(task="outputs", resume=True, runner=stopping_after(0))  # nothing is left to do
    assert (again.images, again.resumed) == (COUNT, COUNT)


def test_results_are_replaced_only_where_it_is_asked_for(folder: np.ndarray) -> None:
    first = rows_of(batch(task="outputs").results)
    for changes in ({}, {"resume": True, "part_size": 8}):  # another run resumes nothing
        with pytest.raises(UsageError, match=r"is there already.*\n?.*--force"):
            batch(**{"task": "outputs", **changes})
        assert rows_of(Path("out.parquet")) == first
        assert not Path("out.parquet.parts").exists()
    Path("in/00000.png").unlink()
    with pytest.raises(KeyboardInterrupt):
        batch(task="outputs", force=True, runner=stopping_after(2))
    assert rows_of(Path("out.parquet")) == first
    with pytest.raises(UsageError, match="is there already"):
        batch(task="outputs", resume=True)
    batch(task="outputs", resume=True, force=True)
    assert len(rows_of(Path("out.parquet"))) == COUNT - 1


@pytest.mark.parametrize("change", ["images", "engine", "sidecar", "top", "preprocessing"])
def test_parts_of_another_run_are_refused(folder: np.ndarray, change: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        batch(runner=stopping_after(1))
    given: dict[str, Any] = {}
    if change == "images":
        Path("in/00001.png").write_bytes(Path("in/00002.png").read_bytes())
    elif change == "engine":
        net = trtnet.Network(backend="torch")
        net.output("scores", trtnet.mean(net.input("input", (1, 3, 8, 8)), (2, 3)))
        trtnet.build(net, sidecar={"preprocessing": {}}).save("m.engine")
    elif change == "sidecar":  # other images for the same engine
        sidecar = json.loads(Path("m.engine.json").read_text())
        sidecar["preprocessing"]["mean"] = [0.0] * 3
        Path("m.engine.json").write_text(json.dumps(sidecar))
    elif change == "top":
        given["top"] = 1
    else:
        stated = state_preprocessing("imagenet", resize_size=8, crop_size=8)
        given["recipe"] = Recipe("m.engine", preprocessing=stated)
    with pytest.raises(UsageError, match=f"another run: other {change}"):
        batch(resume=True, **given)
    assert len(list(Path("out.parquet.parts").glob("part-*.parquet"))) == 1


@pytest.mark.parametrize("file", ["m.engine", "m.engine.json"])
def test_a_worker_takes_no_other_engine_than_the_run_began_with(
    folder: np.ndarray, file: str
) -> None:
    """As one that comes for a killed one, when the engine was built anew meanwhile."""

    def replacing(job: BatchJob, parts: list[Part]) -> Iterator[Outcome]:
        yield PartWorker(job).run(parts[0])
        sidecar = json.loads(Path("m.engine.json").read_text())
        if file == "m.engine":
            net = trtnet.Network(backend="torch")
            net.output("scores", trtnet.mean(net.input("input", (8, 3, 8, 8)), (2, 3)))
            about = {key: sidecar[key] for key in ("class_names", "preprocessing")}
            trtnet.build(net, sidecar=about).save("m.engine")
        else:
            sidecar["class_names"] = [*reversed(NAMES)]
            Path("m.engine.json").write_text(json.dumps(sidecar))
        yield PartWorker(job).run(parts[1])

    with pytest.raises(ExecutionError, match=r"after 16 of 50 images: .*was changed while"):
        batch(runner=replacing)


def test_names_that_are_no_utf8_are_rows_too(folder: np.ndarray) -> None:
    os.rename(b"in/00003.png", b"in/00003\xff.png")
    Path(os.fsdecode(b"in/00004\xfe.png")).write_bytes(b"text")
    Path('in/00005"\n.png').write_bytes(Path("in/00005.png").read_bytes())
    result = batch(task="outputs")
    assert (result.images, result.failed) == (COUNT + 2, 1)
    rows = {row["path"]: row["error"] for row in rows_of(result.results)}
    assert rows["in/00003\\udcff.png"] is None
    assert rows['in/00005"\n.png'] is None
    assert "begins with b'text'" in rows["in/00004\\udcfe.png"]


def test_a_type_that_parquet_lacks_is_refused_in_words(folder: np.ndarray) -> None:
    net = trtnet.Network(backend="torch")
    image = net.input("input", (8, 3, 8, 8))
    net.output("scores", trtnet.mean(image, (2, 3)).to(trtnet.bfloat16), dtype="bfloat16")
    trtnet.build(net, sidecar={"preprocessing": {"std": [0.5] * 3}}).save("m.engine")
    with pytest.raises(ExecutionError, match="scores: Parquet files have no such type"):
        batch()


def test_two_runs_do_not_write_one_file(folder: np.ndarray) -> None:
    def other(job: BatchJob, parts: list[Part]) -> Iterator[Outcome]:
        with pytest.raises(UsageError, match="another run is writing"):
            batch(resume=True)
        yield from run_here(job, parts)

    assert batch(runner=other).images == COUNT


def test_an_engine_that_cannot_run_ends_the_run(folder: np.ndarray) -> None:
    sidecar = json.loads(Path("m.engine.json").read_text())
    Path("m.engine.json").write_text(json.dumps({**sidecar, "preprocessing": None}))
    with pytest.raises(ExecutionError, match="after 0 of 50 images") as caught:
        batch()
    assert "preprocess" in str(caught.value)
    Path("m.engine.json").write_text(json.dumps(sidecar))
    Path("m.engine").write_bytes(Path("m.engine").read_bytes()[:-9])
    with pytest.raises(ExecutionError, match="after 0 of 50 images"):
        batch(results="other.parquet")
    assert not Path("other.parquet").exists()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"runtime": "openvino", "engine_host_code_allowed": True}, "has no effect"),
        ({"runtime": "lean"}, "runtime"),
    ],
)
def test_the_runtime_is_that_of_a_session(
    folder: np.ndarray, given: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError) as wanted:
        trtnet.Session("m.engine", device="cpu", **given)
    assert text in str(wanted.value)
    with pytest.raises(ExecutionError) as found:
        batch(task="outputs", **given)
    assert str(wanted.value).splitlines()[0] in str(found.value)


def test_an_image_whose_results_are_none_is_a_row_with_an_error(folder: np.ndarray) -> None:
    """Of a white image the network gives a score above 1; were the run to end there, no run of
    these images could."""
    save_brightness(Path("m.engine"), 1.25)
    for name in ("in/00000.png", "in/00009.png", f"in/{COUNT - 1:05d}.png"):
        PIL.Image.new("RGB", (8, 8), (255, 255, 255)).save(name)
    rows = rows_of(batch().results)
    failed = {row["path"]: row["error"] for row in rows if row["error"]}
    assert [*failed] == ["in/00000.png", "in/00009.png", f"in/{COUNT - 1:05d}.png"]
    assert all("a score is outside of 0..1" in text for text in failed.values())
    good = [row["scores"][0] for row in rows if not row["error"]]
    wanted = np.delete(folder, [0, 9, COUNT - 1], 0).mean((1, 2, 3)) / 255 * 1.25
    np.testing.assert_allclose(good, wanted, atol=1e-5)
    save_brightness(Path("m.engine"), 9)  # of every image
    with pytest.raises(ExecutionError, match=r"after 0 of 50 images.*a score is outside"):
        batch(results="none.parquet")


def save_brightness(path: Path, factor: float) -> None:
    """One box for each image, with the brightness times `factor` as its score."""
    net = trtnet.Network(backend="torch")
    bright = trtnet.mean(net.input("input", (8, 3, 8, 8)), (1, 2, 3), keepdim=True).reshape(8, 1, 1)
    none = bright * 0.0
    cells = (none, none, none + 4.0, none + 4.0, bright * factor, none)
    net.output("detections", trtnet.cat(cells, 2))
    trtnet.build(net, sidecar={"preprocessing": {"resize_size": [8, 8]}}).save(path)


def test_images_that_end_their_worker_end_the_run(folder: np.ndarray) -> None:
    def dying(job: BatchJob, parts: list[Part]) -> Iterator[Outcome]:
        for _ in range(3):  # as three workers that did not come back
            PartsFolder(job.results).tries(parts[0].index)
        yield PartWorker(job).run(parts[0])

    with pytest.raises(ExecutionError, match="have ended the process that did them 3 times"):
        batch(runner=dying)
    assert batch(resume=True).images == COUNT  # each run begins to count anew


def test_boxes_and_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = str(Path(__file__).parents[2] / "docs" / "images" / "shapes.png")
    with pytest.raises(UsageError, match="takes images of many sizes"):
        batch(place, "boxes.parquet", recipe=Recipe("yolox_shapes"))
    size = get_entry("yolox_shapes").input_shape
    assert size is not None
    recipe, least = Recipe("yolox_shapes", input=InputSpec((1, *size)), batch=1), 0.5
    found = rows_of(batch(place, "boxes.parquet", recipe=recipe, score_threshold=least).results)[0]
    with Detector("yolox_shapes", device="cpu", score_threshold=least) as detect:
        wanted = detect(place)
    assert len(wanted.boxes) > 3
    assert found["classes"] == wanted.classes.tolist()
    assert found["names"] == [*wanted.names]
    np.testing.assert_allclose(found["boxes"], wanted.boxes, atol=1e-2)
    np.testing.assert_allclose(found["scores"], wanted.scores, atol=1e-5)
    with PIL.Image.open(place) as image:
        width, height = image.size
    recipe = Recipe("unet", input=InputSpec((1, 3, height, width)), batch=1)
    found = rows_of(batch(place, "shares.parquet", recipe=recipe).results)[0]
    with Segmenter("unet", device="cpu") as segment:
        shares = {each.name: each.share for each in segment(place).classes}
    assert dict(zip(found["names"], found["shares"], strict=True)) == pytest.approx(shares)


def test_a_model_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(Path("in"), 20)
    recipe = Recipe("resnet20_digits")
    with pytest.raises(KeyboardInterrupt):
        batch(recipe=recipe, runner=stopping_after(1))
    engine = next(Path("out.parquet.parts").glob("*.engine"))
    built = engine.stat().st_mtime_ns

    def checking(job: BatchJob, parts: list[Part]) -> Iterator[Outcome]:
        assert engine.stat().st_mtime_ns == built
        yield from run_here(job, parts)

    rows = rows_of(batch(recipe=recipe, runner=checking, resume=True).results)
    with Classifier("resnet20_digits", device="cpu") as classify:
        wanted = [each.index for each in classify("in")]
    assert [row["classes"][0] for row in rows] == wanted


@pytest.mark.parametrize(
    ("images", "results", "text"),
    [
        ("nowhere", "out.parquet", "there is no nowhere"),
        ("in/*.gif", "out.parquet", "there are no images"),
        ("in", "out.csv", "no name of results"),
        ("in", "nowhere/out.parquet", "cannot be written"),
        ("in", "m.engine/out.parquet", "cannot be written"),
        ("in", "folder.parquet", "cannot be written: it is no file"),
        ("nosuch://bucket", "out.parquet", "no address that can be opened"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(
    folder: np.ndarray, images: str, results: str, text: str
) -> None:
    Path("folder.parquet").mkdir()
    with pytest.raises(UsageError, match=text):
        batch(images, results)
    assert not list(Path().glob("*.parts"))
