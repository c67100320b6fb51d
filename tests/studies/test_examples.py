"""The studies in examples/: short, without parsing of names, and they run."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = 15


def run(name: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    before, sys.argv = sys.argv, [name, *arguments]
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_study_is_short_and_parses_no_names(path: Path) -> None:
    text = path.read_text()
    (first, *rest) = ast.parse(text).body
    lines = text.splitlines()[rest[0].lineno - 1 :]
    assert len([line for line in lines if line.strip()]) <= LINES
    assert isinstance(first, ast.Expr)  # what it studies
    calls = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    assert not calls & {"split", "partition", "rpartition", "startswith", "endswith", "match"}
    assert "import re" not in text


def test_a_mix_is_found_and_taken_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """With a small model here; tests/integration runs it as it is."""
    first, *rows = run("mixes.py", "lenet5", capsys=capsys)
    assert first.startswith("lenet5: 5 of 5 modules in int8: SQNR")
    found = [ast.literal_eval(row) for row in rows]
    assert {row["module"] for row in found} == {"c1", "c3", "c5", "f6", "output"}
    marginal = [row["error2_marginal"] for row in found]
    assert marginal == sorted(marginal, reverse=True)


def test_a_replaced_block_is_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    first, *rows = run("replaced_block.py", capsys=capsys)
    assert first.endswith("changed: layer3.1")
    times = {path: (float(a), float(b)) for path, _, a, b in (row.split(" ") for row in rows)}
    assert times["layer3.1"][1] < times["layer3.1"][0]
    assert times["layer3.0"][1] == times["layer3.0"][0]


def test_a_profile_is_held_against_the_roofline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ceilings that are given: tests/benchmark measures some."""
    from trtnet import benchmark, graph

    given = graph.Gpu("cpu", "A CPU", 2e10, {"fp32": 1e11, "tf32": 1e11}, "made up")
    monkeypatch.setattr(benchmark, "measure_ceilings", lambda device: given)
    _, total, *rows = run("roofline.py", capsys=capsys)
    assert "on A CPU, measured" in total
    found = [ast.literal_eval(row) for row in rows]
    assert len(found) == 10
    for row in found:
        assert row["min_s"] <= row["time_s"]
        assert row["gap"] is None or row["gap"] == pytest.approx(row["min_s"] / row["bound_s"])
