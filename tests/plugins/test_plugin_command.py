"""``trtnet plugin``: a skeleton that works, and a test that finds what is wrong."""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import trtnet
from trtnet.backend import load
from trtnet.cli.arguments import parse
from trtnet.cli.main import main
from trtnet.hardware import missing_gpu
from trtnet.pipeline import InputShapes, define
from trtnet.plugins import registry, skeleton, testing
from trtnet.plugins.testing import _error

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]
needs_no_gpu = pytest.mark.skipif(missing_gpu() is None, reason="there is a GPU")


def test_a_new_plugin_works_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    own = {key: kind for key, kind in registry._DECLARED.items() if key[0].startswith("trtnet::")}
    monkeypatch.setattr(registry, "_DECLARED", own)  # the names of a page are free
    assert main(["plugin", "new", "my_ops::soft_gate"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soft_gate.py", "test_soft_gate.py"]
    assert main(["plugin", "test", "soft_gate.py", "--cases", "2"]) == 0
    out = capsys.readouterr().out
    assert "my_ops::soft_gate" in out
    assert "agree with the reference" in out
    runpy.run_path("test_soft_gate.py")["test_soft_gate"]()
    assert main(["plugin", "new", "my_ops::soft_gate"]) == 2
    assert "soft_gate.py is there already" in capsys.readouterr().err


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 1), (1, 2), (3, 3)])
def test_a_new_plugin_has_the_inputs_and_outputs_that_are_asked_for(
    inputs: int,
    outputs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"sum_of_{inputs}_{outputs}"
    line = ["plugin", "new", name, "--inputs", str(inputs), "--outputs", str(outputs)]
    assert main([*line, "--directory", "."]) == 0
    assert f"test it: trtnet plugin test {name}.py" in capsys.readouterr().out
    assert main(["plugin", "test", f"{name}.py", "--cases", "2"]) == 0
    out = capsys.readouterr().out
    assert f"custom::{name}: 4 examples agree with the reference" in out
    assert "compiled for sm_80" in out or missing_gpu() is None
    for count in ("0", "17"):
        assert main(["plugin", "new", "other", "--inputs", count]) == 2
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F", f"{name}.py"]
    assert subprocess.run(ruff, check=False).returncode == 0


@pytest.mark.parametrize("name", ["Gate", "a b", "class", "::", "1x"])
def test_names_that_no_module_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(trtnet.UsageError, match="cannot be the name"):
        skeleton.write(name, tmp_path)
    with pytest.raises(trtnet.UsageError, match="cannot be written to"):
        skeleton.write("fine", tmp_path / "nowhere")


@needs_no_gpu
def test_without_a_gpu_it_says_what_was_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "test", "user_example:LeakyGate", "--cases", "3"]) == 0
    out = capsys.readouterr().out
    assert "tests::leaky_gate: 6 examples agree with the reference" in out
    assert "float32 -> float32  kernel      0            not run\n" in out
    assert "compiled for sm_80, sm_86, sm_89, sm_90, sm_100, sm_120, but not run: no NVIDIA" in out
    assert main(["plugin", "bench", "user_example"]) == 1
    assert "a kernel is timed on a GPU" in capsys.readouterr().err


@needs_no_gpu
def test_triton_kernels_run_in_the_interpreter(tmp_path: Path) -> None:
    """Also one that forgets the last elements, and one that is wrong."""
    skeleton.write("fine", tmp_path)
    text = (tmp_path / "fine.py").read_text()
    for name, old, new in (
        ("torn", "[y.numel],", "[y.numel - 1],"),
        ("off", "(value * scale)", "(value + scale)"),
    ):
        assert old in text
        changed = text.replace("custom::fine", f"custom::{name}").replace(old, new)
        (tmp_path / f"{name}.py").write_text(changed)
    for name, status, said in (
        ("fine", 0, "custom::fine: 12 examples agree"),
        ("torn", 1, "two runs differ"),
        ("off", 1, "relative L2 error"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "trtnet.cli.main", "plugin", "test", name, "--cases", "3"],
            cwd=tmp_path,
            env={**os.environ, testing.INTERPRET: "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr


def test_unknown_plugins_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "test", "no_such_module"]) == 2
    assert main(["plugin", "polish"]) == 2
    assert "there is no module 'no_such_module'" in capsys.readouterr().err


def test_a_wrong_native_form_is_found_and_can_be_found_again() -> None:
    @trtnet.plugin("tests::off")
    class Off:
        formats = [("fp32", "->", "fp32")]  # noqa: RUF012

        def outputs(self, x: Any) -> Any:
            return x

        def reference(self, x: Any) -> Any:
            return x * 2

        def native(self, x: Any) -> Any:
            return x * 2.001

    [row] = testing.check(Off, cases=5, seed=7)
    assert row.failure is not None
    assert "(seed 7)" in row.failure
    assert 4e-4 < row.worst < 6e-4


def test_errors_are_relative_and_nothing_passes_for_a_number() -> None:
    x = torch.linspace(1, 2, 100)
    assert _error([x * (1 + 1e-4)], [x.double()]) == pytest.approx(1e-4, rel=1e-3)
    assert _error([torch.full([3], torch.nan)], [torch.ones(3)]) == float("inf")
    assert _error([torch.tensor([1, 2, 3, 4])], [torch.tensor([1, 2, 3, 5])]) == 0.25
    assert _error([torch.empty(0)], [torch.empty(0)]) == 0.0
    with pytest.raises(trtnet.VerificationError, match="shapes differ"):
        _error([torch.ones(3)], [torch.ones(1, 3)])


def test_the_flag_plugins_reaches_the_network() -> None:
    class Model(trtnet.Module):
        def forward(self, x: Any) -> Any:
            return importlib.import_module("user_example").LeakyGate()(x, x)

    shapes = InputShapes((2, 3, 4, 4), (trtnet.Shapes.fixed((2, 3, 4, 4)),))
    for form, count in (("native", 0), ("kernel", 1), ("auto", 1)):
        chosen = parse(["lenet5", "--backend", "torch", "--plugins", form]).plugins
        network = define(load("torch"), "fp32", shapes, Model(), plugins=chosen)
        types = [layer.type for layer in trtnet.graph.read(network.definition).layers]
        assert types.count("PLUGIN_V3") == count
    with pytest.raises(trtnet.UsageError, match="native"):
        parse(["lenet5", "--plugins", "both"])
