"""Errors come in the order in which a user can mend them: what is not there, before what the line
lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtnet.cli import weights
from trtnet.cli.main import main

LISTING = "trtnet zoo --list shows all models (in Python trtnet.zoo.list_models())"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("resnet18.engine").write_bytes(b"")
    Path("flowers.pth").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run resnet.engine", "there is no file resnet.engine"),
        ("run resnet.engine --input", "there is no file resnet.engine"),
        ("classify resnet.engine", "resnet.engine does not exist"),
        ("classify resnet.engine", "did you mean resnet18.engine?"),
        ("segment nets/none.engine", "there is no folder nets: check the path"),
        ("search none.engine", "none.engine does not exist"),
        ("search lenet6", "there is no model 'lenet6'"),
        ("search lenet6", "did you mean lenet5, "),
        ("search lenet5 --weights flower.pth", "flower.pth does not exist"),
        ("search lenet5 --weights flower.pth", "did you mean flowers.pth?"),
        ("search lenet5 --data photos", "--data: there is no file photos"),
        ("sensitivity none.py:Net", "none.py"),
        ("classify lenet5 --image a.png --top 0", "--image: there is no file a.png"),
        ("classify lenet5 --folder pictures --top 0", "--folder: there is no folder pictures"),
        ("bench resnet.engine --duration x", "resnet.engine does not exist"),
    ],
)
def test_what_is_not_there_comes_first(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert "required" not in error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run resnet18.engine", "name what to run it on"),
        ("classify lenet5", "name images"),
        ("search lenet5", "the following arguments are required: --data, --budget, -o"),
        ("sensitivity lenet5", "the following arguments are required: --data"),
        ("sensitivity mine --import code.py", "the following arguments are required: --data"),
    ],
)
def test_then_what_is_missing(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


def test_subcommands_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["convert", "flower.pth"]) == 2
    error = capsys.readouterr().err
    assert "source: there is no file flower.pth" in error
    assert "did you mean flowers.pth?" in error


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("resnet55", f"did you mean resnet50, resnet152, resnet34? {LISTING}"),
        ("xyzzy", LISTING),
        ("ResNet-50", f"did you mean resnet50, resnet152, resnet101? {LISTING}"),
    ],
)
def test_an_unknown_model(name: str, fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", name]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no model {name!r}\n  got: {name}\n  fix: {fix}\n"
    )
