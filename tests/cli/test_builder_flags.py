"""``--builderOptimizationLevel``, ``--timingCacheFile``, ``--runtime`` and
``--engineHostCodeAllowed`` of what runs engines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.cli import run as run_command
from trtnet.cli.device_flags import session_options
from trtnet.cli.main import main
from trtnet.engines import loading, options
from trtnet.engines.protocol import LoadOptions

torch_engine = pytest.importorskip("trtnet.engines.torch.engine")

NOTE = "t.cache is ignored: gpu 'A', here 'B'"
ABOUT = {"preprocessing": {"resize_size": [8, 8]}, "class_names": ["red", "green", "blue"]}
SHORT = "--warmUp 0 --duration 0 --iterations 1"
COMMANDS = {  # on an engine, and on a model that would be built first
    "run": ("run m.engine --input x.npy", None),
    "folder": ("run m.engine --folder images", None),
    "bench": (f"bench m.engine {SHORT} --useCudaGraph", f"bench lenet5 {SHORT} --useCudaGraph"),
    "classify": ("classify m.engine --image images/a.png", "classify lenet5 --image images/a.png"),
    "segment": ("segment m.engine --image images/a.png", "segment unet --image images/a.png"),
    "detect": ("detect m.engine --image images/a.png", "detect yolox_shapes --image images/a.png"),
}
LINES = [line for lines in COMMANDS.values() for line in lines if line is not None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    net = trtnet.Network(backend="torch")
    net.output("scores", trtnet.mean(net.input("input", (1, 3, 8, 8)), (2, 3)))
    trtnet.build(net, sidecar=ABOUT).save("m.engine")
    np.save("x.npy", np.ones((1, 3, 8, 8), "float32"))
    Path("images").mkdir()
    Image.new("RGB", (8, 8)).save("images/a.png")
    return tmp_path


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    "flag", ["--builderOptimizationLevel 3", "--timingCacheFile t.cache", "--timing-cache-file t"]
)
def test_on_a_cpu_they_are_refused_before_anything_is_built(
    line: str, flag: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert main([*line.split(), *flag.split(), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "has no effect: tactics are timed on a GPU" in captured.err
    assert "build" not in captured.out
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(("level", "text"), [("6", "6 is more than 5"), ("-1", "less than 0")])
def test_levels_that_do_not_exist(
    line: str, level: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), f"--builderOptimizationLevel={level}"]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_file_is_said_first(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.cache").write_bytes(b"TensorRT's own")
    assert main([*line.split(), "--timingCacheFile", "t.cache", "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "t.cache is no timing cache" in captured.err
    assert "build" not in captured.out
    assert Path("t.cache").read_bytes() == b"TensorRT's own"


def test_to_read_the_file_needs_neither_pytorch_nor_triton() -> None:
    """A command line is checked in no time."""
    code = (
        "import argparse, sys; sys.modules.update(torch=None, triton=None)\n"
        "from trtnet.cli.device_flags import session_options as read\n"
        "print(read(argparse.Namespace(timingCacheFile='t', builderOptimizationLevel=None, "
        "runtime='torch', engineHostCodeAllowed=False))['timing_cache'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "t\n"


@pytest.mark.parametrize("name", ["rtx", "tensorrt"])
def test_a_model_that_is_built_for_tensorrt(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", "lenet5", "--backend", name, "--builderOptimizationLevel", "5"]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert f"an engine of {name} is complete when it is built" in error
    assert "trtnet zoo --builderOptimizationLevel" in error


def test_bench_without_graphs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "missing_gpu", lambda: None)
    assert main(["bench", "lenet5", "--builderOptimizationLevel", "5"]) == 2
    assert "take --useCudaGraph (cuda_graph=True)" in capsys.readouterr().err


def test_what_a_session_gets() -> None:
    parse = run_command._parser().parse_args
    assert session_options(parse(["m.engine"])) == {
        "runtime": "torch",
        "engine_host_code_allowed": False,
        "optimization_level": None,
        "timing_cache": None,
    }
    flags = "--builderOptimizationLevel=0 --timingCacheFile=t.cache --runtime=lean"
    given = parse(["m.engine", *flags.split(), "--engineHostCodeAllowed"])
    assert session_options(given) == {
        "runtime": "lean",
        "engine_host_code_allowed": True,
        "optimization_level": 0,
        "timing_cache": "t.cache",
    }
    assert not Path("t.cache").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_hands_them_on(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the engine, as on a machine with a GPU."""
    got: list[dict[str, Any]] = []

    def load(plan: trtnet.Plan, **named: Any) -> Any:
        got.append(named)
        raise trtnet.UsageError("far enough")

    monkeypatch.setattr(torch_engine, "load", load)
    monkeypatch.setattr(options, "resolved_device", lambda *_: "cuda")
    flags = ["--builderOptimizationLevel=5", "--timingCacheFile=t.cache", "--device=cpu"]
    assert main([*COMMANDS[command][0].split(), *flags, "--runtime=auto"]) == 2
    assert "far enough" in capsys.readouterr().err
    assert [
        (each["optimization_level"], each["timing_cache"], each["runtime"]) for each in got
    ] == [(5, Path("t.cache"), "auto")]


@pytest.mark.parametrize("line", LINES)
def test_an_engine_that_brings_no_code(
    line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is built."""
    before = sorted(folder.rglob("*"))
    flags = ["--engineHostCodeAllowed", "--device=cpu", "--backend=torch"]
    assert main([*line.split(), *flags]) == 2
    captured = capsys.readouterr()
    assert "an engine of torch brings no code" in captured.err
    assert "build" not in captured.out
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_code_of_an_engine_is_allowed_by_every_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    got: list[bool] = []

    def check(_about: Any, _device: str, given: LoadOptions) -> None:
        got.append(given.engine_host_code_allowed)
        raise trtnet.UsageError("far enough")

    monkeypatch.setattr(loading, "check_options", check)
    assert main([*COMMANDS[command][0].split(), "--engineHostCodeAllowed"]) == 2
    assert "far enough" in capsys.readouterr().err
    assert got == [True]


@pytest.mark.parametrize("task", [trtnet.Classifier, trtnet.Segmenter, trtnet.Detector])
def test_an_open_session_has_its_options(task: Any) -> None:
    given: dict[str, Any]
    with trtnet.Session("m.engine", device="cpu") as session:
        for given in ({"runtime": "openvino"}, {"engine_host_code_allowed": True}):
            with pytest.raises(trtnet.UsageError, match="for a session that is open"):
                task(session, **given)


@pytest.mark.parametrize(
    ("command", "report"),
    [
        *(("run", ""), ("folder", ""), ("bench", ""), ("classify", "")),
        *(("folder", "--json r.json"), ("bench", "--json -"), ("classify", "--csv -")),
    ],
)
def test_a_note_is_said_once(
    command: str, report: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = torch_engine.load

    def load_noted(*arguments: Any, **named: Any) -> Any:
        engine = load(*arguments, **named)
        engine.notes = (NOTE,)
        return engine

    monkeypatch.setattr(torch_engine, "load", load_noted)
    assert main([*COMMANDS[command][0].split(), *report.split(), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count(f"note: {NOTE}") == 1
