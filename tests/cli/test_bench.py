"""``trtnet bench``, on the torch backend."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import trtnet
from trtnet import nn
from trtnet.benchmark import from_json, summarize
from trtnet.cli import bench
from trtnet.cli.bench_arguments import bench_parser, parse_shapes, runtime_shapes
from trtnet.cli.main import main
from trtnet.engines.protocol import Binding
from trtnet.engines.steps import Steps
from trtnet.hardware import missing_gpu

PLANS = sorted((Path(__file__).parents[1] / "data" / "plans").glob("*.engine"))
SHORT = ("--warmUp", "0", "--duration", "0", "--iterations", "3")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> str:
    net = trtnet.Network(backend="torch")
    x = net.input("x", ("N", 8))
    net.output("y", nn.ReLU()(x + net.input("scale", ("N", 8))))
    sizes = trtnet.Shapes(min=(1, 8), opt=(4, 8), max=(16, 8))
    path = tmp_path_factory.mktemp("bench") / "add.engine"
    trtnet.build(net, {"x": sizes, "scale": sizes}).save(path)
    return str(path)


def run(*arguments: str) -> int:
    return main(["bench", "--device", "cpu", *SHORT, *arguments])


def report(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    assert run(*arguments, "--json", "-") == 0
    return json.loads(capsys.readouterr().out)


def test_the_runtime_is_said_where_it_was_chosen(capsys: pytest.CaptureFixture) -> None:
    assert run("lenet5", "--runtime", "openvino", "--json", "-") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)["runtime"]
    assert re.fullmatch(r"openvino 20[\d.]+, \d+ threads?", found)
    assert f"lenet5: torch on cpu ({found}); input 1x1x32x32" in captured.err


def test_a_model_runs_on_the_torch_backend(capsys: pytest.CaptureFixture) -> None:
    assert run("lenet5", "--batch", "2") == 0
    text = capsys.readouterr().out
    assert "lenet5: torch on cpu; input 2x1x32x32" in text
    for line in ("Latency", "Enqueue Time", "H2D Latency", "CPU Compute Time", "D2H Latency"):
        assert line in text
    assert "Throughput: " in text
    assert "items/s" in text
    lines = text[text.index("lenet5: torch on cpu") :].splitlines()
    assert lines[2].startswith("CPU Compute Time: median ")
    assert re.search(r", min [\d.]+ ms$", lines[2])
    assert any(line.startswith("times in ms  ") for line in lines)
    assert "Total Host Walltime" in text
    assert "Enqueue Time rather than" not in text  # on a CPU enqueueing is executing


def test_why_no_graph_was_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As on a GPU, whose sessions try it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "_device_name", lambda *_: "NVIDIA H200")
    for failure, said in (
        (
            "the data decides on the\n  size of an output",
            "the data decides on the size of an output",
        ),
        (None, "the execution cannot be captured"),
    ):
        monkeypatch.setattr(Steps, "capture_failure", failure)
        assert run("lenet5", "--useCudaGraph", "--json", "r.json") == 0
        assert f"* No CUDA graph was used: {said}." in capsys.readouterr().out
        found = json.loads(Path("r.json").read_text())
        assert (found["cuda_graph"], found["capture_failure"]) == (False, failure and said)


def test_json(capsys: pytest.CaptureFixture) -> None:
    found = report(capsys, "lenet5:fp16", "--noDataTransfers")
    assert found["backend"] == "torch"
    assert found["device"] == "cpu"
    assert found["precision"] == "fp16"
    assert found["shapes"] == {"input": [1, 1, 32, 32]}
    assert found["settings"]["transfers"] is False
    assert found["summary"]["queries"] >= 3
    assert found["summary"]["h2d"]["max"] == 0
    assert found["summary"]["compute"]["min"] > 0
    assert found["summary"]["latency"]["median"] == found["summary"]["compute"]["median"]
    assert found["roofline"] is None
    assert found["cuda_graph"] is False


@pytest.mark.parametrize(
    ("flags", "shape"),
    [
        ([], [4, 8]),
        (["--batch", "9"], [9, 8]),
        (["--shapes", "x:16x8,scale:16x8"], [16, 8]),
    ],
)
def test_an_engine_runs_at_the_shapes_asked_for(
    engine: str, flags: Sequence[str], shape: list[int], capsys: pytest.CaptureFixture
) -> None:
    found = report(capsys, engine, *flags)
    assert found["shapes"] == {"x": shape, "scale": shape}


@pytest.mark.parametrize(
    ("flags", "shape"),
    [
        (["--shapes", "3x1x32x32"], [3, 1, 32, 32]),
        (["--optShapes", "2x1x32x32", "--minShapes", "1x1x32x32", "--maxShapes", "4x1x32x32"],
         [2, 1, 32, 32]),
        (["--opt-shapes", "2x1x32x32", "--min-shapes", "1x1x32x32", "--max-shapes", "4x1x32x32",
          "--shapes", "input:3x1x32x32"], [3, 1, 32, 32]),
    ],
)  # fmt: skip
def test_a_model_is_built_for_the_shapes_asked_for(
    flags: Sequence[str], shape: list[int], capsys: pytest.CaptureFixture
) -> None:
    assert report(capsys, "lenet5", *flags)["shapes"] == {"input": shape}


def test_exported_times_give_the_same_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    times = tmp_path / "times.json"
    found = report(capsys, "lenet5", "--exportTimes", str(times), "--infStreams", "2")
    assert found["streams"] == 2
    assert found["summary"]["queries"] >= 6
    again = summarize(from_json(times.read_text()))
    assert again.throughput == pytest.approx(found["summary"]["throughput"], rel=1e-6)
    assert again.latency.p99 == pytest.approx(found["summary"]["latency"]["p99"], rel=1e-6)


def test_profile_joins_layers_to_modules(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "profile.json"
    assert run("lenet5", "--dumpProfile", "--export-profile", str(path)) == 0
    text = capsys.readouterr().out
    assert "=== Profile (10 iterations) ===" in text
    assert "c1/conv" in text
    count, *layers = json.loads(path.read_text())
    assert count == {"count": 10}
    assert {module for layer in layers for module in layer["modules"]} >= {"c1", "c3", "output"}
    assert sum(layer["percentage"] for layer in layers) == pytest.approx(100)


def test_threads_and_kebab_case(engine: str, capsys: pytest.CaptureFixture) -> None:
    found = report(capsys, engine, "--inf-streams", "2", "--threads", "--no-data-transfers")
    assert found["settings"]["threads"] is True
    assert found["streams"] == 2


def test_roofline_of_an_engine_on_a_gpu(
    engine: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_device_name", lambda session, asked: "NVIDIA H200")
    found = report(capsys, engine)
    assert found["roofline"]["gpu"] == "h200"
    # Three matrices of 4 x 8 floats at 4.8 TB/s
    assert found["roofline"]["bound_ms"] == pytest.approx(3 * 4 * 8 * 4 / 4.8e12 * 1e3)
    assert found["roofline"]["limit"] == "memory"
    assert found["roofline"]["share"] == pytest.approx(
        found["roofline"]["bound_ms"] / found["roofline"]["measured_ms"]
    )
    assert found["limited_by"] == "enqueue"  # as it always is on a CPU
    named = report(capsys, engine, "--gpu", "h200-measured", "--dumpProfile")
    assert named["roofline"]["gpu"] == "h200-measured"
    assert sum(layer["bound_ms"] for layer in named["layers"]) == pytest.approx(
        named["roofline"]["bound_ms"]
    )
    assert run(engine, "--useCudaGraph") == 0
    text = capsys.readouterr().out
    assert "of the bound of NVIDIA H200 SXM" in text
    assert "No CUDA graph was used" in text


def test_fp32_is_held_against_fp32(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_device_name", lambda session, asked: "NVIDIA H200")
    bounds = {
        precision: report(capsys, f"lenet5:{precision}", "--batch", "512")["roofline"]["bound_ms"]
        for precision in ("fp32", "tf32")
    }
    assert bounds["fp32"] > bounds["tf32"]


def test_a_ceiling_that_is_not_known(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_device_name", lambda session, asked: "Tesla T4")
    assert report(capsys, "lenet5:tf32")["roofline"]["gpu"] == "t4"  # it has no TF32: FP32 counts
    assert report(capsys, "lenet5:bf16")["roofline"] is None
    assert run("lenet5:bf16", "--gpu", "t4") == 2
    assert "no bf16 ceiling is known for NVIDIA T4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet6"], "did you mean lenet5"),
        (["lenet5", "--infStreams", "0"], "--infStreams: 0 is not positive"),
        (["lenet5", "--duration", "-1"], "--duration: -1 is not between 0 and 86,400"),
        (["lenet5", "--shapes", "axb"], "cannot read"),
        (["lenet5", "--gpu", "h200"], "runs on a CPU"),
        (["lenet5", "--network", "lenet5"], "--network is for engine files"),
        (["lenet5", "--exportTimes", "/nowhere/times.json"], "--exportTimes"),
        (["ENGINE", "--shapes", "z:1x8"], "there is no input 'z'"),
        (["ENGINE", "--shapes", "x:17x8,scale:17x8"], "outside every profile"),
        (["ENGINE", "--backend", "tensorrt"], "not built for the backend 'tensorrt'"),
    ],
)
def test_bad_usage(
    engine: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    target, *flags = arguments
    assert run(target.replace("ENGINE", engine), *flags) == 2
    assert message in capsys.readouterr().err


def test_shapes() -> None:
    assert parse_shapes("8x3x224x224") == {None: (8, 3, 224, 224)}
    assert parse_shapes("a:1x2,b:3") == {"a": (1, 2), "b": (3,)}
    for text in ("", "a:", "a:1x", "a:1,a:2", "a:-1"):
        with pytest.raises(trtnet.UsageError):
            parse_shapes(text)


def test_shape_values_cannot_be_made_up() -> None:
    arguments = bench_parser().parse_args(["x.engine"])
    inputs = [Binding("size", "int64", (2,), True, on_host=True)]
    with pytest.raises(trtnet.UsageError, match="'size' decide shapes"):
        runtime_shapes(arguments, inputs, [{}])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "path", [p for p in PLANS if p.stem != "two_inputs"], ids=lambda path: path.stem
)
def test_all_kinds_of_inputs_and_outputs(
    path: Path, device: str, capsys: pytest.CaptureFixture
) -> None:
    """Types that numpy lacks, several profiles, shapes that the data decides; on a GPU if any."""
    if device == "cuda" and missing_gpu() is not None:
        pytest.skip(missing_gpu() or "")
    found = report(capsys, str(path), "--device", device, "--useCudaGraph", "--dumpProfile")
    assert found["summary"]["queries"] >= 3
    assert found["summary"]["compute"]["min"] > 0
    assert (found["device"] == "cpu") == (device == "cpu")
    assert found["layers"]
    if device == "cuda":
        assert found["cuda_graph"] is (path.stem != "nonzero")
        assert found["summary"]["h2d"]["min"] > 0
        assert found["summary"]["latency"]["median"] < 50


def test_plans_are_there() -> None:
    assert {path.stem for path in PLANS} >= {"bfloat16", "dynamic", "nonzero", "static"}


def test_a_bench_without_a_gpu_says_so(capsys: pytest.CaptureFixture) -> None:
    if missing_gpu() is None:
        pytest.skip("there is a GPU")
    assert main(["bench", "lenet5", "--backend", "rtx"]) == 1
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
