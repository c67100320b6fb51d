"""Own rooflines: measured, written, read, and taken by the commands that tell times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trtnet import benchmark, graph
from trtnet.cli.main import main
from trtnet.errors import UsageError

OWN = graph.Gpu("desk", "My desk", 1e10, {"fp32": 1e11, "tf32": 1e11, "fp16": 2e11}, "made up")
OTHER = graph.Gpu("lap", "My lap", 5e9, {"fp16": 1e11}, "made up")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own.json"
    graph.save_ceilings(path, [OWN])
    return str(path)


def report(*words: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "report.json"
    assert main([*words, "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_file_is_what_was_saved(file: str) -> None:
    assert graph.load_ceilings(file) == {"desk": OWN}


def test_cost_takes_them(file: str, tmp_path: Path) -> None:
    told = report("cost", "lenet5:fp16", "--backend", "rtx", "--ceilings", file, tmp_path=tmp_path)
    assert told["bound"]["gpu"] == "desk"
    moved = told["bytes_read"] + told["bytes_written"]
    assert told["bound"]["seconds"] >= moved / 1e10 * (1 - 1e-12)


def test_several_need_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.json"
    graph.save_ceilings(path, [OWN, OTHER])
    words = ["cost", "lenet5:fp16", "--backend", "rtx", "--ceilings", str(path)]
    told = report(*words, "--gpu", "lap", tmp_path=tmp_path)
    assert told["bound"]["gpu"] == "lap"
    assert main(words) == 2
    assert "desk, lap" in capsys.readouterr().err
    assert main([*words, "--gpu", "h200"]) == 2
    assert "no processor 'h200'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"a": {"name": "A"}}',
             '{"a": {"name": "A", "gb_per_s": -1, "tflops": {"fp32": 1}, "source": ""}}',
             '{"a": {"name": "A", "gb_per_s": 1, "tflops": {}, "source": ""}}'],
)  # fmt: skip
def test_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UsageError):
        graph.load_ceilings(tmp_path / "f.json")


def test_a_cpu_is_held_against_its_own_roofline(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "lenet5", "--device", "cpu", "--duration", "0", "--iterations", "3",
             "--warmUp", "0", "--dumpProfile"]  # fmt: skip
    told = report(*words, "--ceilings", file, tmp_path=tmp_path)
    assert told["roofline"]["gpu"] == "desk"
    assert told["profile_noise"] >= 0
    modules = {row["module"]: row["time_s"] for row in told["modules"] if row["depth"] == 1}
    assert modules.keys() >= {"c1", "f6"}
    least = sum(layer["min_ms"] for layer in told["layers"]) / 1e3
    assert sum(modules.values()) == pytest.approx(least)
    assert main([*words, "--gpu", "h200"]) == 2
    assert "trtnet ceilings" in capsys.readouterr().err


def test_measured_ceilings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies and products of any machine are slower than light, and not negative."""
    from trtnet.benchmark import ceilings

    monkeypatch.setattr(ceilings, "_COPIED", 1 << 22)
    monkeypatch.setattr(ceilings, "_MOST", {"cpu": 128})
    path = tmp_path / "here.json"
    told = report("ceilings", "-o", str(path), "--name", "here", tmp_path=tmp_path)
    (found,) = graph.load_ceilings(path).values()
    assert (found.key, told["gpu"]) == ("here", "here")
    assert 1e7 < found.bandwidth < 1e13
    assert {*found.flops} == {"fp32", "tf32", "bf16", "fp16"}
    with pytest.raises(UsageError, match="cannot be measured"):
        benchmark.measure_ceilings("tpu")
