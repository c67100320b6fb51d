"""``tools/bench_zoo.py``: a run on a CPU, rows, retries, and the page that is made of rows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import bench_zoo
import numpy as np
import pytest
import torch
from bench_zoo_cells import Settings, row_of
from bench_zoo_models import Cell, counterpart, error, images, in_float64
from bench_zoo_page import latest, page, read_rows, summary
from bench_zoo_ways import ways
from workers import TaskError

import trtnet

MACHINE = {"machine": "NVIDIA H200, cuDNN 91900", "versions": {"torch": "2.11.0"}}


def row(
    model: str = "resnet50", batch: int = 1, peer: float = 1.2, **others: Any
) -> dict[str, Any]:
    ratio = {"median": peer, "low": peer - 0.1, "high": peer + 0.1, "rounds": 41}
    figures = {"setup_s": 1.0, "captured": True, "within": True, "error": 1e-3}
    return {
        "model": model, "batch": batch, "precision": "fp16", "engine": "any batch",
        "best_peer": "torch.compile, channels_last", "level": None, "seconds": 9.0,
        "date": "2026-11-30", "command": "python tools/bench_zoo.py", **MACHINE,
        "candidates": [
            {"name": "torch.compile, channels_last", "median_ms": peer, "ratio": ratio,
             "cold_setup_s": 33.0, "memory_mib": {"peak": 2000.0}, **figures},
            {"name": "session", "median_ms": 1.0, "host_us": 2.5, "call_us": 14.25,
             "memory_mib": {"peak": 1500.0}, **figures},
        ],
        **others,
    }  # fmt: skip


def test_a_run_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ["--device", "cpu", "--model", "lenet5", "--model", "nosuch", "--batch", "2",
                 "--precision", "fp32", "--precision", "int8", "--peer", "eager", "--rounds", "6",
                 "--engines", str(tmp_path / "engines"), "--rows", str(rows)]  # fmt: skip
    assert bench_zoo.main(arguments) == 1  # for there is no such model
    found = {(one["model"], one["precision"]): one for one in read_rows(rows)}
    assert len(found) == 4
    one = found["lenet5", "fp32"]
    assert one["shape"] == [2, 1, 32, 32]
    assert one["best_peer"] == "eager, channels_last"
    assert one["versions"]["torch"] == torch.__version__.partition("+")[0]
    peer, session = one["candidates"]
    assert (peer["name"], session["name"]) == ("eager, channels_last", "session")
    assert peer["ratio"]["rounds"] == 6
    assert peer["ratio"]["low"] <= peer["ratio"]["median"] <= peer["ratio"]["high"]
    assert 0 < session["error"] < 1e-5
    assert session["within"]
    quantized = found["lenet5", "int8"]
    assert [c["name"] for c in quantized["candidates"]][1:] == ["session", "session, fp16"]
    assert all(c["median_ms"] > 0 for c in quantized["candidates"])
    assert quantized["candidates"][1]["error"] > quantized["candidates"][2]["error"] > 0
    assert quantized["candidates"][1]["reference_error"] < 0.05
    assert quantized["candidates"][1]["as_reference"]
    assert "reference_error" not in quantized["candidates"][2]
    assert quantized["best_peer"] == "eager, channels_last"
    assert "no model 'nosuch'" in found["nosuch", "fp32"]["failed"]
    written = rows.with_suffix(".md").read_text()
    assert f"| lenet5 | {session['median_ms']:.3f} ms |" in written
    assert "nosuch was not measured" in written
    assert capsys.readouterr().out.count("lenet5") == 2


def test_weights_and_engines_are_kept(tmp_path: Path) -> None:
    """The network and both PyTorch models compute the same function."""
    cell = Cell("lenet5", 2, "fp32")
    from bench_zoo_models import engine

    path, kind = engine(cell, tmp_path)
    assert kind == "any batch"
    assert path.exists()
    again = counterpart("lenet5", tmp_path)
    x = images(cell.shape)
    with torch.inference_mode():
        expected = counterpart("lenet5", tmp_path).double()(x.double())
    assert torch.equal(in_float64(again, x, "cpu")[0], expected)
    with trtnet.Session(path, device="cpu") as session:
        found = session(x.numpy())["logits"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_images_have_unit_variance_and_are_always_the_same() -> None:
    x = images((4, 3, 64, 64))
    assert abs(float(x.std()) - 1) < 0.2
    assert torch.equal(x, images((4, 3, 64, 64)))
    assert not torch.equal(x, images((4, 3, 64, 64), 1))


def test_errors_are_relative_in_the_l2_norm(rng: np.random.Generator) -> None:
    a, b = (torch.from_numpy(rng.standard_normal((2, 10))) for _ in range(2))
    limit = Cell("lenet5", 1, "fp16").tolerance
    found, is_within = error([a, b], [a, b * 1.01], limit)
    expected = np.linalg.norm(0.01 * b.numpy()) / np.linalg.norm(1.01 * b.numpy())
    assert found == pytest.approx(expected)
    assert is_within
    assert not error([-a], [a], limit)[1]
    lost, is_within = error([a, b * float("nan")], [a, b], limit)
    assert lost != lost
    assert not is_within
    assert error([a], [a, b], limit)[1] is False


def test_layouts_fit_the_model() -> None:
    convolutions = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))
    patches = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16, 16), torch.nn.LayerNorm(4))
    modes = ["eager", "compile"]
    assert [way.layout for way in ways(convolutions, modes)] == ["channels_last"] * 2
    assert [way.layout for way in ways(patches, modes)] == ["contiguous"] * 2
    assert len(ways(patches, modes, layouts="both", timed=True)) == 8
    assert len({way.name for way in ways(patches, modes, layouts="both", timed=True)}) == 8


class Failing:
    """A worker whose candidates in `broken` end the process."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.tasks = broken, 0

    def ask(self, task: dict[str, Any], limit_s: float, until: float) -> dict[str, Any]:
        self.tasks += 1
        for name in self.broken:
            if name not in task["skip"]:
                raise TaskError(name, f"{name} crashed")
        return {"skipped": dict(task["skip"])}


def run(*arguments: str) -> bench_zoo.Run:
    options = bench_zoo.parsed(arguments)
    return bench_zoo.Run(options, bench_zoo.settings_of(options), time.monotonic() + 100)


def test_a_candidate_that_crashes_is_left_out() -> None:
    made, worker = run(), Failing("eager, contiguous", "session")
    cell = {"model": "a", "batch": 1, "precision": "fp16"}
    found = made.ask(worker, "measure", cell)  # type: ignore[arg-type]
    assert found["skipped"] == {"eager, contiguous": "eager, contiguous crashed",
                                "session": "session crashed"}  # fmt: skip
    assert worker.tasks == 3
    made.ask(worker, "measure", cell)  # type: ignore[arg-type]
    assert worker.tasks == 4  # what is known is not tried again
    for lost in ("timing", "engine fp16", "checking session", "weights"):
        with pytest.raises(TaskError, match="crashed"):
            made.ask(Failing(lost), "measure", {**cell, "batch": lost})  # type: ignore[arg-type]


def test_options_of_the_session_are_given_only_if_they_are_asked_for() -> None:
    plain = Settings(**run().settings)
    assert [plain.session_options(level) for level in plain.levels] == [{}]
    given = ["--builderOptimizationLevel", "3", "--builderOptimizationLevel", "5"]
    chosen = Settings(**run(*given, "--timingCacheFile", "x.cache").settings)
    cache = str(Path("x.cache").resolve())
    assert [chosen.session_options(level) for level in chosen.levels] == [
        {"optimization_level": 3, "timing_cache": f"{cache}.level3"},
        {"optimization_level": 5, "timing_cache": f"{cache}.level5"},
    ]
    one = Settings(**run(*given[:2], "--timingCacheFile", "x.cache", "--reopen").settings)
    assert one.session_options(3) == {"optimization_level": 3, "timing_cache": cache}
    for wrong in (["--rounds", "5"], ["--reopen"]):
        with pytest.raises(SystemExit):
            bench_zoo.parsed(wrong)


def test_the_page_has_the_figures_of_the_rows() -> None:
    rows = [row("a", peer=1.2), row("b", peer=0.9), row("a", batch=64, peer=1.5)]
    text = page(rows)
    assert f"Geometric mean of the ratios of 2 of 2 models: **{(1.2 * 0.9) ** 0.5:.2f}**" in text
    assert "begins below 0.98 for 1: b." in text
    assert "**1.50**" in text
    line = next(line for line in text.splitlines() if line.startswith("| a |"))
    for figure in ("1.000 ms", "torch.compile, channels_last: 1.200 ms", "1.20 [1.10, 1.30]",
                   "1.0e-03 / 1.0e-03", "1.0 s / 1.0 s (33 s)", "1,500 / 2,000",
                   "2.5 / 14.2 us"):  # fmt: skip
        assert figure in line
    assert text.index("fp16, batch 1\n") < text.index("fp16, batch 64\n")
    assert "## NVIDIA H200, cuDNN 91900, level default" in text


def test_the_page_says_how_often_ways_were_timed() -> None:
    timed = {"with tactics": 350.0, "without tactics": 410.0, "with tactics, timed": 349.0}
    one = row("a")
    one["candidates"][1].update(ways=timed, warm_setup_s=1.84, warm_ways={}, warm_peak_mib=612.3)
    text = page([one, row("b")])
    assert "| 1.0 s, 3 ways (1.8 s, a known way) / 1.0 s (33 s) | 1,500 (612) / 2,000 |" in text
    one["candidates"][1].update(ways={"with tactics": 350.0})
    assert "| 1.0 s, 1 way (1.8 s, a known way) / " in page([one])


def test_the_last_row_counts_and_groups_stay_apart() -> None:
    other = row("a", peer=3.0, machine="another GPU")
    level = row("a", peer=4.0, level=5)
    chosen = latest([row("a", peer=1.0), other, row("a", peer=2.0), level])
    assert [one["candidates"][0]["median_ms"] for one in chosen] == [2.0, 3.0, 4.0]
    text = page([row("a", peer=1.0), other, row("a", peer=2.0), level])
    assert text.count("\n## ") == 3
    assert "another GPU" in text
    assert "level 5" in text


def test_what_failed_is_on_the_page() -> None:
    failed = {"model": "c", "batch": 1, "precision": "fp16", "candidates": [], "best_peer": None,
              "level": None, "failed": "timing: killed", "seconds": 1.0, "date": "2026-11-30",
              "command": "x"}  # fmt: skip
    alone = row("d", best_peer=None)
    alone["candidates"] = [
        {"name": "eager, contiguous", "reason": "RuntimeError: no"},
        {**row()["candidates"][1], "within": False, "not_captured": "the data decide"},
    ]
    text = page([failed, row("a"), alone])
    assert "of 1 of 3 models" in text  # the failed row is of the machine of its run
    for note in ("* c was not measured: timing: killed", "* d: no eager, contiguous: RuntimeError",
                 "* d: session runs without a CUDA graph: the data decide",
                 "* d: the error of the session is above the limit of fp16"):  # fmt: skip
        assert note in text
    assert "failed: timing: killed" in summary(failed)
    assert "no ratio" in summary(alone)
    assert page([failed]).count("Nothing was measured.") == 1


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    for one in (row("a"), row("b")):
        bench_zoo.append(path, one)
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()] == ["a", "b"]
    assert bench_zoo.main(["--page", "--rows", str(path)]) == 0
    assert path.with_suffix(".md").read_text() == page([row("a"), row("b")], path.as_posix())


def test_each_level_has_a_row_against_the_same_peers() -> None:
    sessions = {"session, level 3": ("int8", 3), "session, level 5": ("int8", 5),
                "session, fp16": ("fp16", 3)}  # fmt: skip
    times = {"eager, contiguous": [2.0] * 6, "torch.compile, contiguous": [1.5] * 6,
             "session, level 3": [1.0] * 6, "session, fp16": [1.2] * 6}  # fmt: skip
    rows = {name: {"name": name, "median_ms": values[0]} for name, values in times.items()}
    rows["session, level 5"] = {"name": "session, level 5", "reason": "too slow"}
    third = row_of("session, level 3", 3, sessions, rows, times)
    ratios = {one["name"]: one.get("ratio", {}).get("median") for one in third["candidates"]}
    assert ratios == {"eager, contiguous": 2.0, "torch.compile, contiguous": 1.5,
                      "session": None, "session, fp16": 1.2}  # fmt: skip
    assert (third["best_peer"], third["level"]) == ("torch.compile, contiguous", 3)
    fifth = row_of("session, level 5", 5, sessions, rows, times)
    assert {"name": "session", "reason": "too slow"} in fifth["candidates"]
    assert not any("ratio" in one for one in fifth["candidates"])
    assert fifth["level"] == 5


def test_a_way_that_finds_too_few_boxes_is_no_peer() -> None:
    times = {"one": [1.0] * 6, "other": [2.0] * 6, "session": [1.5] * 6}
    shares = {"one": 0.57, "other": 0.99, "session": 1.0}
    rows = {name: {"name": name, "median_ms": values[0], "matched": shares[name]}
            for name, values in times.items()}  # fmt: skip
    found = row_of("session", None, {"session": ("fp16", None)}, rows, times)
    assert found["best_peer"] == "other"
    rows["other"]["matched"] = 0.59  # both find few, as with random weights
    found = row_of("session", None, {"session": ("fp16", None)}, rows, times)
    assert found["best_peer"] == "one"
