"""The study of mixes in examples/, on the networks that it names."""

from __future__ import annotations

import ast
import os
import runpy
import sys
from pathlib import Path

import pytest

MIXES = Path(__file__).parents[2] / "examples" / "mixes.py"


@pytest.mark.skipif(
    not os.environ.get("TRTNET_INTEGRATION"), reason="takes minutes: TRTNET_INTEGRATION=1 runs it"
)
@pytest.mark.parametrize(("model", "modules"), [("mobilenet_v2", 53), ("convnext_tiny", 59)])
def test_mixes(
    model: str,
    modules: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [str(MIXES), model])
    runpy.run_path(str(MIXES), run_name="__main__")
    first, *rows = capsys.readouterr().out.splitlines()
    assert f"of {modules} modules in int8" in first
    found = [ast.literal_eval(row) for row in rows]
    assert len(found) == 5
    assert all(row["error2_alone"] > 0 for row in found)
