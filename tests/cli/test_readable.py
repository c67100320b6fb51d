"""Tables and results as people read them, and files that are no models."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trtnet import graph, pipeline
from trtnet.cli.main import main
from trtnet.cli.weights import main as weights_command
from trtnet.precision.policy import Policy


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Result:
    engine = tmp_path_factory.mktemp("engine") / "lenet5.engine"
    return pipeline.run(pipeline.Recipe("lenet5", "fp16", backend="rtx", engine=engine))


def lines(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    assert main(list(arguments)) == status
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["inspect", "lint", "cost", "bench", "verify", "policy", "zoo"])
def test_a_file_that_is_not_there(
    command: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lenet5.engine").touch()
    assert main([command, "lenet.engine"]) == 2
    error = capsys.readouterr().err
    assert "error: lenet.engine does not exist\n" in error
    assert "fix: did you mean lenet5.engine?" in error


def test_a_built_engine_is_inspected(
    built: pipeline.Result, capsys: pytest.CaptureFixture[str]
) -> None:
    path = built.report["engine"]["path"]
    text = lines(capsys, "inspect", path)
    assert text[0].startswith("engine of lenet5, ")
    assert text[0].endswith(", fp16")
    assert text[1:] == [
        "inputs    input float32 1x1x32x32",
        "outputs   logits float32 1x10",
        "weights   DIGITS_V1",
        "the engine is the one that its sidecar describes",
    ]
    for command in ("lint", "cost"):
        assert main([command, path]) == 2
        assert f"{path} is a built engine, whose layers cannot be read" in capsys.readouterr().err
    bare = Path(path).with_name("bare.engine")
    bare.write_bytes(Path(path).read_bytes())
    assert "no sidecar beside it" in lines(capsys, "inspect", str(bare))[-1]
    damaged = Path(path).with_name("damaged.engine")
    damaged.write_bytes(Path(path).read_bytes()[:-1])
    Path(f"{damaged}.json").write_text(Path(f"{path}.json").read_text())
    assert main(["inspect", str(damaged)]) == 1


def test_results_print_on_a_few_lines(built: pipeline.Result) -> None:
    plan = built.plan
    assert plan is not None
    assert str(plan).splitlines()[1] == "inputs    input float32 1x1x32x32"
    found = built.model.verify().verification
    assert str(found).startswith("equal: 12 tensors, largest relative L2 ")
    assert " dB, argmax agreement 100.0%" in str(found)
    # LeCun's layers by hand: 416,520 products
    assert str(graph.cost(graph.read(built.model.network.definition))).startswith(
        "0.4165 MMAC, 61,706 weights, "
    )
    assert str(Policy("int8", keep={"fc": "fp32"})) == (
        "int8, the rest fp16; inputs and outputs fp32; normalization fp32; reduction fp32; fc fp32"
    )


def test_summaries_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "inspect", "lenet5")[0].startswith("18 layers: ")
    assert lines(capsys, "cost", "lenet5")[0].startswith("0.4165 MMAC, ")
    assert lines(capsys, "verify", "lenet5")[0].startswith("equal: 12 tensors, ")
    assert lines(capsys, "diff", "lenet5", "lenet5:fp16")[0] == (
        "32 differences, the first: c1/cast: only in the second network (CAST)"
    )
    assert lines(capsys, "diff", "lenet5", "lenet5:fp16", "--exit-code", status=1)
    assert lines(capsys, "diff", "lenet5", "lenet5", "--exit-code")[0] == "no difference"


def test_policy_says_a_reason_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(capsys, "policy", "resnet18:int8")
    assert text[0].startswith("modules that compute: ")
    assert text[-1].startswith("[1] folded into the layer before it, in whose precision")
    assert sum("folded into" in line for line in text) == 1
    assert any(line.split() == ["bn1", "BatchNorm2d", "fp16", "[1]"] for line in text)


def test_weights_are_listed_in_the_order_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weights_command(["extract", "lenet5", "-o", str(tmp_path / "w.safetensors")]) == 0
    capsys.readouterr()
    assert weights_command(["inspect", str(tmp_path / "w.safetensors")]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[1] == "size            0.25 MB"
    keys = [line.split()[0] for line in text[-10:]]
    layers = ("c1", "c3", "c5", "f6", "output")
    assert keys == [".".join(pair) for pair in itertools.product(layers, ("weight", "bias"))]
    save_file(
        {f"layer.{i}.w": np.ones(i + 1, np.float32) for i in range(12)}, tmp_path / "o.safetensors"
    )
    assert weights_command(["inspect", str(tmp_path / "o.safetensors")]) == 0
    text = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in text[-12:]] == [f"layer.{i}.w" for i in range(12)]
