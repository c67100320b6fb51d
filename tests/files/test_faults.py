"""The first cases of ``tools/faults.py``: kills during saves, and simultaneous savers."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("faults")


@pytest.mark.parametrize("section", ["kills", "savers"])
def test_nothing_is_lost(faults: ModuleType, section: str) -> None:
    rows = faults.run(section, 20, faults.FaultJournal(None, ""))
    assert len(rows) == 20
    assert [row["lost"] for row in rows if row["lost"]] == []
    assert "**0 losses in 20 cases.**" in faults.described(section, rows)


def test_a_run_goes_on_where_it_ended(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, page = tmp_path / "journal", tmp_path / "page.md"
    for count in (2, 3):
        monkeypatch.setattr(
            sys, "argv",
            ["faults", "kills", f"--count={count}", f"--journal={journal}", f"--markdown={page}"],
        )  # fmt: skip
        assert faults.main() == 0
    assert len(journal.read_text().splitlines()) == 1 + 3
    assert "0 losses in 3 cases" in page.read_text()


def test_a_loss_is_reported(
    faults: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = faults.section_class("kills")
    monkeypatch.setattr(kills, "case", lambda self, number: {
        "found": "refused", "left": 2, "next": False, "lost": "a pair was refused"})  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["faults", "kills", "--count", "1"])
    assert faults.main() == 1
    assert "kills 0: a pair was refused" in capsys.readouterr().err
