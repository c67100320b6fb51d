"""``trtnet inspect``, ``verify``, ``cost``, ``diff`` and ``lint``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trtnet.cli.main import main

RESNET50_MACS = 4_089_184_256  # torchvision documents 4.089 G


def report(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict:
    assert main([*arguments, "--json", "-"]) == status
    return json.loads(capsys.readouterr().out)


def test_inspect_lists_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "lenet5"]) == 0
    text = capsys.readouterr().out
    assert "c1/conv" in text
    assert "1x6x28x28" in text
    assert "3 CONVOLUTION" in text
    assert "inputs input; outputs logits" in text


def test_inspect_as_json_and_as_code(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "inspect", "resnet18:fp16")
    convolution = next(layer for layer in found["layers"] if layer["name"] == "conv1/conv")
    assert convolution["attributes"]["stride_nd"] == [2, 2]
    assert convolution["weights"]["kernel"] == [64, 3, 7, 7]
    assert found["tensors"]["logits"]["dtype"] == "float32"
    assert main(["inspect", "lenet5", "--code"]) == 0
    code = capsys.readouterr().out
    assert "def forward(self, input" in code
    assert "c1" in code


def test_a_saved_graph_is_a_target(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "lenet5.safetensors")
    assert main(["inspect", "lenet5", "--save", path]) == 0
    capsys.readouterr()
    found = report(capsys, "cost", path)
    # Multiply-accumulates of LeCun's layers, by hand
    by_hand = 28 * 28 * 6 * 25 + 100 * 16 * 6 * 25 + 120 * 16 * 25 + 120 * 84 + 84 * 10
    assert found["macs"] == by_hand
    assert main(["diff", path, "lenet5", "--weights", "DIGITS_V1"]) == 0
    assert main(["verify", path]) == 2
    assert "no PyTorch model" in capsys.readouterr().err


def test_verify_prints_a_row_per_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "lenet5"]) == 0
    text = capsys.readouterr().out
    assert "tanh#1" in text
    assert "equal to lenet5 of torch" in text
    found = report(capsys, "verify", "lenet5", "--fp16")
    assert found["passed"] is True
    assert {row["module"] for row in found["rows"]} >= {"c1", "s2", "output", "logits"}


def test_cost_of_resnet50(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "cost", "resnet50", "--batch", "256", "--gpu", "h200", "--fp16")
    assert found["macs"] == 256 * RESNET50_MACS
    assert found["bound"]["gpu"] == "h200"
    assert sum(layer["seconds"] for layer in found["layers"]) == pytest.approx(
        found["bound"]["seconds"]
    )
    # No layer can beat the datasheet's arithmetic: 989 TFLOP/s
    assert found["bound"]["seconds"] > 2 * found["macs"] / 989.5e12


def test_diff(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "resnet18", "resnet18"]) == 0
    capsys.readouterr()
    assert main(["diff", "resnet18", "resnet34"]) == 0
    first = capsys.readouterr().out.split("\n")[0]
    assert re.fullmatch(r"\d+ differences, the first: layer1\.2\S*: only in the second .*", first)
    found = report(capsys, "diff", "resnet18", "resnet34", "--exit-code", status=1)
    assert found["layers"]["CONVOLUTION"] == [20, 36]
    assert found["differences"]


def test_lint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "resnet18:fp16"]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert main(["lint", "lenet5:fp16", "--explain"]) == 1
    text = capsys.readouterr().out
    assert "P001 c3/conv" in text  # 6 and 16 channels: 6 is no multiple of 8
    assert "Tensor cores take 16-bit channels in groups of 8" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "resnet5"], "did you mean resnet50"),
        (["inspect", "lenet5:int4"], "unknown precision 'int4'"),
        (["cost", "lenet5", "--gpu", "h2000"], "h200"),
        (["diff", "lenet5"], "required: B"),
        (["lint"], "required: MODEL|GRAPH"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_graph_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    assert main(["inspect", "lenet5", "--save", str(path)]) == 0
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["inspect", str(path)]) == 1
    assert "graph.safetensors" in capsys.readouterr().err
