"""``trtnet refit``: its flags, its exit statuses, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import BuildConfig, Plan, nn
from trtnet.cli.main import main
from trtnet.quantization.table import CalibrationTable
from trtnet.weights import save

pytest.importorskip("torch")


def _plan(state: Any, precision: str = "fp32", table: Any = None, **options: Any) -> Plan:
    layer, net = nn.Linear(6, 4), trtnet.Network("torch", precision, calibration=table)
    layer.load_state_dict(state)
    net.output("y", layer(net.input("x", (1, 6))))
    if net.observed and table is None:
        digest = net.weights_sha256
        ranges = dict.fromkeys(net.observed, 2.0)
        return _plan(state, precision, CalibrationTable(ranges, "minmax", digest), **options)
    return trtnet.build(net, config=BuildConfig(**(options or {"refit": True})))


def _state(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"weight": rng.random((4, 6), np.float32), "bias": rng.random(4, np.float32)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _plan(_state(0)).save("old.engine")
    save("new.safetensors", _state(1))
    save("part.safetensors", {"weight": _state(1)["weight"]})
    return tmp_path


def _run(line: str) -> int:
    return main(line.split())


def test_the_new_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("refit old.engine --weights new.safetensors -o out.engine") == 0
    made = Plan.load("out.engine")
    assert made.engine == _plan(_state(1)).engine
    assert made.sidecar["weights"]["source"] == "new.safetensors"
    said = capsys.readouterr().out
    assert "refittable      2  bias, weight" in said
    assert "not verified again" in said


def test_the_folder_is_made() -> None:
    """As for ``--saveEngine``; a file that stands in the way is refused."""
    assert _run("refit old.engine --weights new.safetensors -o new/one/out.engine") == 0
    assert Plan.load("new/one/out.engine").engine == _plan(_state(1)).engine
    assert _run("refit old.engine --weights part.safetensors -o other/out.engine") == 1
    assert not Path("other").exists()
    assert _run("refit old.engine --weights new.safetensors -o new.safetensors/out.engine") == 2


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert _run("refit old.engine --weights new.safetensors --dry-run") == 0
    assert _run("refit old.engine --weights part.safetensors --dry-run --json r.json") == 1
    report = json.loads(Path("r.json").read_text())
    assert (report["possible"], report["missing"]) == (False, ["bias"])
    Path("r.json").unlink()
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("line", "status", "texts"),
    [
        ("--weights new.safetensors", 2, ("-o NEW, or --dry-run",)),
        ("--weights new.safetensors --dry-run -o out.engine", 2, ("-o NEW, or --dry-run",)),
        ("-o out.engine", 2, ("--weights",)),
        ("--weights none.safetensors -o out.engine", 1, ("none.safetensors does not exist",)),
        ("--weights part.safetensors -o out.engine", 1, ("missing: bias",)),
        ("--weights new.safetensors -o old.engine", 2, ("old.engine",)),
        ("--weights new.safetensors --lora part.safetensors -o out.engine", 1, ("no part of an",)),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    line: str, status: int, texts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path("old.engine").read_bytes(), Path("old.engine.json").read_bytes()
    assert _run(f"refit old.engine {line}") == status
    said = capsys.readouterr().err
    for text in texts:
        assert text in said
    assert not Path("out.engine").exists()
    assert (Path("old.engine").read_bytes(), Path("old.engine.json").read_bytes()) == old


def test_quantized_activations(capsys: pytest.CaptureFixture[str]) -> None:
    _plan(_state(0), "int8").save("int8.engine")
    assert _run("refit int8.engine --weights new.safetensors -o out.engine") == 1
    assert "--calib-table" in capsys.readouterr().err
    layer = nn.Linear(6, 4)
    layer.load_state_dict(_state(1))
    net = trtnet.Network("torch", "int8")
    net.output("y", layer(net.input("x", (1, 6))))
    ranges = dict.fromkeys(net.observed, 3.0)
    table = CalibrationTable(ranges, "minmax", net.weights_sha256)
    table.save("t.json")
    line = "refit int8.engine --weights new.safetensors --calib-table t.json -o out.engine"
    assert _run(line) == 0
    assert Plan.load("out.engine").engine == _plan(_state(1), "int8", table).engine
