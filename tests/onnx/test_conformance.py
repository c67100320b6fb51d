"""The ONNX project's own node tests, through the committed tool."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.backend.test import loader
from onnx.reference import ReferenceEvaluator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        return importlib.import_module("onnx_conformance")


@pytest.fixture(scope="module")
def differences(tool):
    return importlib.import_module("onnx_differences")


@pytest.fixture(scope="module")
def tests():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # onnx provokes overflows on purpose
        return {test.name: test for test in loader.load_model_tests(kind="node")}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # onnx provokes overflows on purpose
def test_conformance(tool):
    report = tool.run()
    assert report.wrong == []
    parsed, passed, spelled = map(report.total, ("parsed", "passed", "spelled"))
    assert parsed >= 1000
    assert passed >= 0.96 * parsed
    assert passed + spelled >= 0.98 * parsed
    assert report.ok
    committed = (ROOT / "docs" / "onnx_conformance.md").read_text()
    assert f"{passed} of these pass" in committed
    assert f"{spelled} more pass: {passed + spelled} " in committed


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


@pytest.fixture(scope="module")
def spelled(differences, tests):
    """For each test that is spelled out: the test, the spelling and what it makes of the model."""
    listed = [(item.spelling, name) for item in differences.DIFFERENT for name in item.tests]
    return [
        (tests[name], spelling, spelling(tests[name].model))
        for spelling, name in listed
        if spelling
    ]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # rows of -inf in a masked softmax
def test_spelled_out_models_mean_the_same_to_onnx(spelled):
    for test, _, model in spelled:
        for inputs, expected in test.data_sets:
            feeds = {value.name: x for value, x in zip(model.graph.input, inputs, strict=True)}
            outputs = ReferenceEvaluator(model).run(None, feeds)
            for ours, theirs in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, test.rtol, test.atol, err_msg=test.name)
    assert len(spelled) == 16


def test_function_bodies_are_those_of_onnx_own_expanded_tests(differences, tests, spelled):
    different = {name for item in differences.DIFFERENT for name in item.tests}
    for test, spelling, model in spelled:
        if spelling is differences.with_function_body:
            expanded = f"{test.name}_expanded"
            assert expanded not in different
            ours, theirs = map(differences.parse, (model, tests[expanded].model))
            assert [(layer.type, layer.attributes) for layer in ours.layers] == [
                (layer.type, layer.attributes) for layer in theirs.layers
            ]


def as_given(model):
    return model


def with_unknown_operator(model):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.node[0].op_type = "Unknown"
    return changed


@pytest.mark.parametrize(
    ("spelling", "problem"),
    [(as_given, "y: values differ by up to 9"), (with_unknown_operator, "does not parse")],
)
def test_a_spelling_that_does_not_help_is_wrong(tool, differences, monkeypatch, spelling, problem):
    proof = differences.same_network("upper", 0)
    difference = tool.Difference("no", proof, ("test_triu_one_row",), spelling)
    monkeypatch.setattr(tool, "DIFFERENT", (difference,))
    report = tool.run("test_triu_one_row")
    assert report.wrong == [f"test_triu_one_row: spelled out: {problem}"]
    assert report.total("spelled") == 0


def test_defaults_are_added_and_nothing_is_changed(differences, tests):
    given = tests["test_tril_neg"].model.graph.node[0].attribute
    (kept,) = differences.with_defaults(tests["test_tril_neg"].model).graph.node[0].attribute
    assert [kept] == list(given)
    assert kept.i == 0
    (added,) = differences.with_defaults(tests["test_triu_neg"].model).graph.node[0].attribute
    assert (added.name, added.i) == ("upper", 1)


def test_exit_status(tool, monkeypatch, capsys):
    assert tool.main(["--only", "test_relu"]) == 0
    assert "Of 2 tests 2 parse" in capsys.readouterr().out
    monkeypatch.setattr(tool, "DIFFERENT", ())
    assert tool.main(["--only", "test_triu_one_row"]) == 1
