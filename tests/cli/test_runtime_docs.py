"""docs/runtime.md, block after block."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtnet.cli import zoo
from trtnet.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "runtime.md"
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "python -m trtnet.zoo ": zoo.main,
    "trtnet ": main,
}


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: python blocks are one program, shell lines run beside it in an empty folder."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert {kind for kind, _ in blocks} == {"python", "bash"}
    names: dict[str, Any] = {"__name__": "runtime.md"}
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "runtime.md", "exec"), names)
        else:
            for line in text.splitlines():
                run(line)
    assert (tmp_path / "out.npz").stat().st_size > 0


def run(line: str) -> None:
    program = next(name for name in PROGRAMS if line.startswith(name))
    assert PROGRAMS[program](shlex.split(line.removeprefix(program))) == 0, line
