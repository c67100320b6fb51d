"""`python -m trtnet.weights`: what it prints, what it returns, what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trtnet.weights import load, save
from trtnet.weights.__main__ import main

STATE = {"fc.weight": np.ones((3, 2), np.float32), "bn.running_mean": np.ones(5, np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(tmp_path / "w.safetensors", STATE, {"architecture": "tiny"}, checksum=True)
    return tmp_path / "w.safetensors"


def test_extract_reports_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "m.safetensors"
    arguments = ["extract", "mobilenet_v2", "--weights", "random", "--seed", "2", "-o", str(path)]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == 3504872  # torchvision's documentation
    assert report["bytes"] == path.stat().st_size
    assert report["sha256"] == load(path).sha256
    assert report["metadata"]["seed"] == "2"
    assert main([*arguments, "--num-classes", "5"]) == 0
    assert "architecture: mobilenet_v2" in capsys.readouterr().out
    assert load(path)["classifier.1.bias"].shape == (5,)


def test_inspect(file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect", str(file)]) == 0
    text = capsys.readouterr().out
    for part in ("fc.weight", "3x2", "float32", "architecture: tiny"):
        assert part in text
    assert main(["inspect", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tensors"], report["parameters"], report["intact"]) == (2, 6, True)
    assert report["keys"]["fc.weight"] == {"shape": [3, 2], "dtype": "float32"}


def test_inspect_finds_a_changed_tensor(file: Path, capsys: pytest.CaptureFixture) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert main(["inspect", str(file)]) == 1
    assert "differ from the recorded sha256" in capsys.readouterr().err


def test_inspect_keeps_control_characters_from_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save(tmp_path / "w.safetensors", {"\x1b[2J[red]a": np.ones(1)}, {"note": "\x1b]0;x\x07"})
    assert main(["inspect", str(tmp_path / "w.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\\x1b[2J[red]a" in text


def test_convert_there_and_back(file: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint, back = file.with_suffix(".pth"), file.with_name("back.safetensors")
    assert main(["convert", str(file), str(checkpoint)]) == 0
    assert "no metadata" in capsys.readouterr().err
    assert main(["convert", str(checkpoint), str(back), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == 2
    weights = load(back)
    assert weights.keys() == STATE.keys()
    for name, array in STATE.items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["inspect", "nothing.safetensors"], 1, "error: nothing.safetensors does not exist"),
        (["extract", "resnet5"], 2, "did you mean"),
        (["extract", "resnet18", "--weights", "BEST"], 2, "IMAGENET1K_V1"),
        (["extract", "resnet18", "--seed", "-1"], 2, "not a seed"),
        (["extract", "resnet18", "-o", "w.onnx"], 2, "extract writes safetensors files"),
        (["extract", "resnet18", "-o", "w.onnx"], 2, "fix: name it w.safetensors"),
        (["extract", "resnet18", "--weights", "DEFALT"], 2, "did you mean DEFAULT"),
        (["convert", "a.pth", "b.onnx"], 2, "unknown file format"),
        (["convert", "a.pth", "b.onnx"], 2, "fix: name it as one of b.safetensors, b.pt, b.pth"),
        (["convert", "a.pth", "b.safetensor"], 2, "fix: did you mean .safetensors"),
    ],
)
def test_errors_are_text_and_a_status(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [[], ["explode"], ["extract"], ["extract", "resnet18", "--num-classes", "0"]]
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.out == ""


_IMPORTS = """
import sys
from trtnet.weights.__main__ import main
assert main(["--help"]) == 0
import trtnet.weights
heavy = {"torch", "torchvision", "tensorrt", "tensorrt_rtx", "rich"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "extract" in done.stdout
