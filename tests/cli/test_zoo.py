"""``python -m trtnet.zoo`` from the arguments to the engine, the report and the exit status."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet import graph
from trtnet.building.plan import Plan
from trtnet.cli.main import main as console
from trtnet.cli.progress import Progress
from trtnet.cli.zoo import main
from trtnet.extras import install
from trtnet.pipeline import defined
from trtnet.pipeline.inputs import seeded_batches
from trtnet.weights import save

LENET = ("lenet5", "--backend", "rtx")
LENET_PARAMETERS = 61_706  # six maps of 5x5, and so on: by hand
LENET_MACS = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 120 * 400 + 120 * 84 + 84 * 10


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lenet() -> Callable[..., dict[str, Any]]:
    """Runs lenet5 with flags, expects a status, and gives the report."""

    def run(*flags: str, status: int = 0) -> dict[str, Any]:
        assert main([*LENET, "--json", "r.json", *flags]) == status
        return json.loads(Path("r.json").read_text())

    return run


def python(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_report_and_the_engine(lenet: Any, capsys: pytest.CaptureFixture) -> None:
    report = lenet("--fp16")
    assert set(report) == {
        *("model", "backend", "precision", "weights", "network", "calibration", "engine"),
        *("verify", "executed", "preprocessing", "preprocessing_source", "policy"),
        "output_format",
    }
    assert set(report["backend"]) == {"name", "version"}
    assert set(report["weights"]) == {"source", "origin", "sha256", "parameters", "notes"}
    assert set(report["network"]) == {"layers", "macs", "inputs", "outputs", "define_s"}
    assert set(report["engine"]) == {
        *("path", "bytes", "sha256", "build_s", "reused", "changed"),
        *("compute_capabilities", "note", "replaced"),
    }
    assert set(report["verify"]) == {
        *("against", "inputs", "max_abs", "rel_l2", "sqnr_db", "cosine", "argmax_agreement"),
        *("positions", "boxes", "first_divergent", "blame", "budget", "limit", "passed"),
        *("rows", "shapes", "changed"),
    }
    assert set(report["executed"]) == {"ran", "reason"}
    assert report["weights"]["source"] == "DIGITS_V1"
    assert report["weights"]["parameters"] == LENET_PARAMETERS
    assert report["network"]["macs"] == LENET_MACS
    assert report["verify"]["passed"] is True
    assert report["verify"]["cosine"] > 0.999
    assert report["executed"]["ran"] is False

    engine = Path("engines/lenet5-fp16.engine")
    assert report["engine"]["path"] == str(engine)
    assert report["engine"]["sha256"] == hashlib.sha256(engine.read_bytes()).hexdigest()
    sidecar = Plan.load(engine).sidecar
    assert sidecar["class_names"] == [str(digit) for digit in range(10)]
    assert sidecar["weights"] == report["weights"]
    assert sidecar["verification"]["passed"] is True

    lines = capsys.readouterr().out.splitlines()[-8:]
    names = [
        "backend",
        "precision",
        "weights",
        "images",
        "network",
        "engine",
        "verified",
        "executed",
    ]
    assert [line.split()[0] for line in lines] == names
    assert str(engine) in lines[5]
    assert "loadEngine" in lines[7]


def test_a_map_of_classes_has_no_distance(capsys: pytest.CaptureFixture) -> None:
    flags = ["--argmax", "--image-size=33", "--backend=rtx", "--json=r.json"]
    assert main(["unet", *flags]) == 0
    verify = json.loads(Path("r.json").read_text())["verify"]
    assert (verify["rel_l2"], verify["cosine"], verify["positions"]) == (None, None, 1.0)
    assert verify["argmax_agreement"] > 0.99
    assert "100.000% of the positions as good" in capsys.readouterr().out


def test_an_engine_for_the_torch_backend(capsys: pytest.CaptureFixture) -> None:
    flags = ["--backend=torch", "--fp16", "--json=r.json", "--batch=2"]
    assert main(["lenet5", *flags]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["backend"] == {"name": "torch", "version": version("torch")}
    assert report["verify"]["passed"] is True
    assert report["executed"]["ran"] is False
    assert report["executed"]["reason"].endswith(f"trtnet bench {report['engine']['path']}")
    read = graph.loads(Plan.load(report["engine"]["path"]).engine)
    assert graph.macs(read) == 2 * LENET_MACS
    assert "executed  no: it is only built and verified here" in capsys.readouterr().out
    assert main(["lenet5", *flags, "--builderOptimizationLevel=5"]) == 2
    error = capsys.readouterr().err
    assert "torch cannot honour builder_optimization_level" in error
    assert "on a GPU it is built where it first runs" in error
    assert "--builderOptimizationLevel and --timingCacheFile to trtnet run, bench" in error
    assert main(["lenet5", *flags, "--avgTiming=5"]) == 2
    assert "which TensorRT's builder never sees" in capsys.readouterr().err


def test_an_unchanged_recipe_is_reused(lenet: Any) -> None:
    first = lenet("--fp16")["engine"]
    assert first["reused"] is False
    engine = Path(first["path"])
    written = engine.stat().st_mtime_ns
    second = lenet("--fp16")["engine"]
    assert (second["reused"], second["build_s"]) == (True, 0.0)
    assert second["sha256"] == first["sha256"]
    assert engine.stat().st_mtime_ns == written
    assert lenet("--fp16", "--force")["engine"]["reused"] is False
    assert lenet("--fp16", "--builderOptimizationLevel=1")["engine"]["reused"] is False
    assert lenet("--fp16", "--weights=random")["engine"]["reused"] is False


def test_an_engine_that_is_verified_later_is_as_it_was(lenet: Any, capsys: Any) -> None:
    engine = Path(lenet("--skip-verify")["engine"]["path"])
    assert Plan.load(engine).sidecar["verification"]["passed"] is None
    again = lenet()["engine"]
    assert (again["reused"], again["changed"], again["build_s"]) == (False, ["verification"], 0.0)
    assert "as it was; written anew beside it: verification" in capsys.readouterr().out
    assert lenet()["engine"]["reused"] is True
    assert Plan.load(engine).sidecar["verification"]["passed"] is True


@pytest.mark.parametrize("damage", ["engine", "sidecar"])
def test_a_damaged_engine_is_built_again(lenet: Any, damage: str) -> None:
    path = lenet("--skip-verify")["engine"]["path"]
    file = Path(path if damage == "engine" else f"{path}.json")
    file.write_bytes(file.read_bytes()[:-100])
    assert lenet("--skip-verify")["engine"]["reused"] is False
    assert Plan.load(path).sidecar["model"] == "lenet5"


def test_dynamic_batch_and_several_images(lenet: Any) -> None:
    report = lenet(
        *("--minShapes=input:1x1x32x32", "--optShapes=input:2x1x32x32"),
        *("--maxShapes=input:8x1x32x32", "--verify-inputs=5", "--saveEngine=deep/er/m.engine"),
    )
    assert report["network"]["inputs"][0]["shape"] == [-1, 1, 32, 32]
    assert report["network"]["macs"] == 2 * LENET_MACS
    assert report["verify"]["inputs"] == 6  # whole batches of two
    assert report["verify"]["passed"] is True
    assert Plan.load("deep/er/m.engine").sidecar["profiles"][0]["input"]["max"] == [8, 1, 32, 32]


def test_verification_inputs_are_seeded_and_fill_the_batches() -> None:
    shapes = [(2, 1, 4, 4), (3, 1, 4, 4)]
    first, again = (list(seeded_batches(shapes, 5, seed=3)) for _ in range(2))
    assert [count for count, _ in first] == [2, 2, 2, 3, 3]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    assert not np.array_equal(first[0][1], first[1][1])


def test_a_failed_verification_writes_no_engine(
    lenet: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    honest = defined.torch_model

    def wrong(*arguments: Any) -> Any:
        model = honest(*arguments)
        model.c3.weight.data[0] += 0.1
        return model

    monkeypatch.setattr(defined, "torch_model", wrong)
    report = lenet(status=1)
    assert report["verify"]["first_divergent"] == "c3"
    assert report["verify"]["passed"] is False
    assert report["engine"]["path"] is None
    assert not list(Path("engines").iterdir())
    out = capsys.readouterr().out
    assert "FAILED: relative L2 " in out
    assert " at c3, required is relative L2 <= " in out
    assert ", the limit of tf32 for a module" in out
    advice, command = out.splitlines()[-2:]
    assert advice == "the definition differs from PyTorch's there; its layers are listed by"
    assert command.startswith("trtnet inspect lenet5 ")
    assert console(shlex.split(command)[1:]) == 0
    assert "→ c3" in out
    assert "not written: verification failed" in out


def test_json_on_stdout_is_all_there_is(capsys: pytest.CaptureFixture) -> None:
    assert main([*LENET, "--skip-verify", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verify"]["passed"] is None
    assert "verified  no: skipped" in captured.err


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["resnet5"], "did you mean resnet50"),
        (["--list", "nothing*"], "no model matches 'nothing*'"),
        (["lenet5", "--int8"], "--calib-data"),
        (["lenet5", "--workspace=1"], "--memPoolSize"),
        (["lenet5", "--image-size=64"], "f6"),
        (["lenet5", "--weights=IMAGENET1K_V2"], "lenet5"),
        (["lenet5", "--saveEngine=."], "is a directory"),
        (["lenet5", "--json=nowhere/r.json"], "does not exist"),
        (["lenet5", "--saveEngine=m", "--json=m.json"], "sidecar"),
        (["lenet5", "--backend=rtx", "--versionCompatible"], "lean runtime"),
        (["lenet5", "--backend=rtx", "--compute-capability=9.0"], "cannot build for"),
        (["lenet5", "--minShapes=2x1x32x32", "--optShapes=1x1x32x32", "--maxShapes=4x1x32x32"],
         "min <= opt <= max"),
    ],
)  # fmt: skip
def test_bad_usage(argv: list[str], text: str, capsys: pytest.CaptureFixture) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert text in error
    assert not list(Path().rglob("*.engine"))


def test_weights_that_do_not_fit(capsys: pytest.CaptureFixture) -> None:
    save("w.safetensors", {"c1.weight": np.ones((6, 1, 5, 5), np.float32)})
    assert main([*LENET, "--weights", "w.safetensors"]) == 1
    assert "missing: c3.weight" in capsys.readouterr().err
    Path("garbage.safetensors").write_bytes(b"\xff" * 100)
    assert main([*LENET, "--weights", "garbage.safetensors"]) == 1
    assert "garbage.safetensors" in capsys.readouterr().err


_BLOCKED = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from trtnet.cli.zoo import main
sys.exit(main(sys.argv[2:]))
"""


def test_no_backend_installed() -> None:
    done = python(_BLOCKED, "tensorrt,tensorrt_rtx", "lenet5")
    assert done.returncode == 1
    assert install("rtx") in done.stderr
    assert "Traceback" not in done.stderr


def test_torch_is_needed_for_verification_only() -> None:
    done = python(_BLOCKED, "torch,torchvision", *LENET)
    assert done.returncode == 1
    assert "--skip-verify" in done.stderr
    assert "[torch]" in done.stderr
    assert "Traceback" not in done.stderr
    done = python(_BLOCKED, "torch,torchvision", *LENET, "--skip-verify")
    assert done.returncode == 0, done.stderr
    assert Path("engines/lenet5-tf32.engine").stat().st_size > 0


_LOADED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "torchvision", "tensorrt", "tensorrt_rtx", "rich"} & set(sys.modules)
print("loaded:", sorted(heavy))
"""


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["trtnet.zoo", "--help"], "--saveEngine"),
        (["trtnet.zoo", "--list"], "IMAGENET1K_V2 80.86\n"),
        (["trtnet.cli.main", "--help"], "weights"),
        (["trtnet.cli.main", "zoo", "--help"], "--saveEngine"),
    ],
)
def test_help_and_list_answer_at_once(argv: list[str], text: str) -> None:
    done = python(_LOADED, *argv)
    assert text in done.stdout
    assert "loaded: []" in done.stdout, done.stdout


def test_help_does_not_advertise_removed_flags() -> None:
    done = python(_LOADED, "trtnet.zoo", "--help")
    for flag in ("--best", "--workspace", "--explicitBatch", "--calib "):
        assert flag not in done.stdout


def test_list_with_a_pattern(capsys: pytest.CaptureFixture) -> None:
    assert main(["--list", "resnet1*"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["model", "task", "parameters", "GMAC", "input"]
    assert [line.split()[0] for line in lines] == ["resnet101", "resnet152", "resnet18"]
    assert lines[2].split() == ["resnet18", "classification", "11,689,512", "1.814", "3x224x224",
                                "IMAGENET1K_V1", "69.76"]  # fmt: skip
    assert lines[0].index("3x224x224") == lines[2].index("3x224x224") == header.index("input")


def test_list_as_json(capsys: pytest.CaptureFixture) -> None:
    assert main(["--list", "*_resnet50", "--json=cards.json"]) == 0
    assert main(["--list", "*_resnet50", "--json=-"]) == 0
    cards = json.loads(Path("cards.json").read_text())
    assert json.loads(capsys.readouterr().out) == cards
    assert list(cards) == ["deeplabv3_resnet50", "detr_resnet50", "fcn_resnet50"]
    fcn = cards["fcn_resnet50"]
    assert (fcn["task"], fcn["input_shape"]) == ("segmentation", [3, 520, 520])
    assert fcn["weights"][0]["accuracy"] == {"miou": 60.5, "pixel_acc": 91.4}


def test_a_residual_network_with_random_weights(capsys: pytest.CaptureFixture) -> None:
    """End to end; parameters and multiply-accumulates as torchvision states them."""
    flags = ["--fp16", "--weights=random", "--backend=rtx", "--verify-inputs=2", "--json=r.json"]
    assert main(["resnet18", *flags]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["weights"]["parameters"] == 11_689_512
    assert report["network"]["macs"] == pytest.approx(1.814e9, rel=0.005)
    assert report["weights"]["source"] == "random (seed 0)"
    assert report["verify"]["passed"] is True
    assert report["verify"]["inputs"] == 2
    modules = {row["module"] for row in report["verify"]["rows"]}
    assert {"layer1.0.bn1", "layer4", "fc", "logits"} <= modules
    assert "Warning" not in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_interrupt_while_the_progress_is_shown_brings_the_cursor_back(monkeypatch) -> None:
    """Rich hides the cursor before its block begins."""
    import rich.progress

    def start(self: rich.progress.Progress) -> None:
        self.console.show_cursor(False)
        raise KeyboardInterrupt

    monkeypatch.setattr(rich.progress.Progress, "start", start)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(stream).step("build"):
        pass
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_progress_names_every_step(stream: io.StringIO) -> None:
    with Progress(stream).step("build") as update:
        update("a phase [with brackets]")
    assert re.fullmatch(
        r"(\x1b\[\w+)*build +\d+\.\d s, a phase \[with brackets\]",
        stream.getvalue().splitlines()[-1],
    )
