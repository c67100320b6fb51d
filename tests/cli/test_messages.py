"""What command lines say about mistakes, and how tables are printed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from trtnet.cli.main import main
from trtnet.cli.tables import table


@pytest.mark.parametrize(
    ("argv", "suggestion"),
    [
        (["zoo", "resnet50", "--fp17"], "did you mean --fp16"),
        (["zoo", "resnet50", "--save-engin=x"], "did you mean --save-engine"),
        (["verify", "resnet50", "--verfy-inputs", "2"], "did you mean --verify-inputs"),
        (["bench", "resnet50", "--duratoin=1"], "did you mean --duration"),
        (
            ["search", "resnet50", "--data=x", "--budget=x", "-o=x", "--item=1"],
            "did you mean --item",
        ),
        (["zoo", "resnet50", "resnet18"], "see --help"),
        (["zoo", "resnet50", "--qqqqqqqq"], "see --help"),
    ],
)
def test_unknown_flags_are_answered_with_similar_ones(
    argv: list[str], suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "unrecognized arguments" in error
    assert suggestion in error


@pytest.mark.parametrize("number", ["0", "-1"])
@pytest.mark.parametrize("command", ["verify", "zoo"])
def test_no_images_to_verify_with(
    command: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "lenet5", f"--verify-inputs={number}"]) == 2
    assert f"{number} is not positive" in capsys.readouterr().err


def test_a_missing_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["zoo", "lenet5", "--backend=rtx", "--weights=missing.safetensors"]) == 1
    error = capsys.readouterr().err
    assert "missing.safetensors does not exist" in error
    assert "DIGITS_V1, random" in error
    assert "trtnet weights extract" in error


def test_a_precision_in_the_name_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "lenet5:fp17"]) == 2
    assert "did you mean fp16" in capsys.readouterr().err
    assert main(["zoo", "lenet5:fp17"]) == 2
    assert "did you mean fp16" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "on", "off"), [(io.StringIO(), "", ""),
                                                   (Terminal(), "\x1b[1m", "\x1b[0m")])  # fmt: skip
def test_columns_are_aligned(stream: io.StringIO, on: str, off: str) -> None:
    columns = (("name", "left"), ("µs", "right"), ("note", "left"))
    table(columns, [("conv", 1.5, ""), ("long/name", 10, "[bold]")], stream)
    assert stream.getvalue().splitlines() == [
        f"{on}name        µs  note{off}",
        "conv       1.5",
        "long/name   10  [bold]",
    ]


def test_a_table_does_not_pass_on_what_controls_a_terminal() -> None:
    stream = io.StringIO()
    table((("name", "left"),), [("a\x1b[31m\nb",)], stream)
    assert stream.getvalue() == "name\na\\x1b[31m\\nb\n"


def test_a_table_without_rows() -> None:
    stream = io.StringIO()
    table((("name", "left"), ("µs", "right")), [], stream)
    assert stream.getvalue() == "name  µs\n"
