"""The ONNX project's own node tests, through the committed tool."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        return importlib.import_module("onnx_conformance")


@pytest.fixture(scope="module")
def differences(tool):
    return importlib.import_module("onnx_differences")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # onnx provokes overflows on purpose
def test_conformance(tool):
    report = tool.run()
    assert report.wrong == []
    assert report.total("parsed") >= 1000
    assert report.total("passed") >= 0.96 * report.total("parsed")
    assert report.ok
    committed = (ROOT / "docs" / "onnx_conformance.md").read_text()
    assert f"{report.total('passed')} of these pass" in committed


def test_a_failure_that_is_not_explained_is_wrong(tool, monkeypatch):
    monkeypatch.setattr(tool, "DIFFERENT", ())
    report = tool.run("test_triu_one_row")
    assert report.wrong == ["test_triu_one_row: y: values differ by up to 9"]
    assert not report.ok


def test_an_explanation_that_is_not_needed_is_wrong(tool, differences, monkeypatch):
    proof = differences.same_network("upper", 0)
    monkeypatch.setattr(tool, "DIFFERENT", (tool.Difference("no", proof, ("test_tril",)),))
    assert tool.run("test_tril").wrong == ["test_tril: passes, but is listed as different"]


@pytest.mark.parametrize("proof", ["other_shape", "other_dtype", "other_order", "is_random"])
def test_a_wrong_explanation_is_wrong(tool, differences, monkeypatch, proof):
    difference = tool.Difference("no", getattr(differences, proof), ("test_triu_one_row",))
    monkeypatch.setattr(tool, "DIFFERENT", (difference,))
    (line,) = tool.run("test_triu_one_row").wrong
    assert line == "test_triu_one_row: not as explained: y: values differ by up to 9"


def test_exit_status(tool, monkeypatch, capsys):
    assert tool.main(["--only", "test_relu"]) == 0
    assert "Of 2 tests 2 parse" in capsys.readouterr().out
    monkeypatch.setattr(tool, "DIFFERENT", ())
    assert tool.main(["--only", "test_triu_one_row"]) == 1
