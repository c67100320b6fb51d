"""``docs/walks/int8_mix.md``: its commands run, and print what the page shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trtnet.building.plan import Plan
from trtnet.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "walks" / "int8_mix.md"
MOST_COMMANDS = 10


def test_the_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line that is shown is printed by the commands before it, but for numbers. A build is
    the command that the search before it printed, to the letter."""
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    advised: str | None = None
    commands = 0
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.S | re.M):
        if kind == "python":
            Path(re.match(r"# (\S+\.py)\n", block)[1]).write_text(block)  # type: ignore[index]
        elif kind == "bash":
            printed = []
            for line in block.splitlines():
                if advised is not None:
                    assert line == advised
                assert run(line) == 0, line
                printed += capsys.readouterr().out.splitlines()
                advised = printed[-1] if line.startswith("trtnet search ") else None
                commands += 1
        else:
            require_shown(block.splitlines(), printed)
    assert commands <= MOST_COMMANDS
    for engine in ("mobilenet_v2-mix", "resnet20_digits-digits"):
        sidecar: Any = Plan.load(Path("engines") / f"{engine}.engine").sidecar
        assert sidecar["verification"]["passed"] is True
        assert sidecar["verification"]["budget"]["passed"] is True
        assert "int8" in (sidecar["policy"]["compute"], *sidecar["policy"]["keep"].values())


def run(line: str) -> int:
    """One line of the page; what it installs is here already."""
    program, *arguments = shlex.split(line)
    if program == "python":
        return subprocess.run([sys.executable, *arguments], check=False).returncode
    assert program in ("trtnet", "pip")
    return main(arguments) if program == "trtnet" else 0


def test_the_page_installs_what_it_imports() -> None:
    """A fresh environment has nothing that no line of the page brings."""
    (line,) = re.findall(r"^pip install .*", PAGE.read_text(), re.M)
    assert shlex.split(line)[2:] == ["-e", ".[rtx,torch]", "scikit-learn"]


def require_shown(shown: list[str], printed: list[str]) -> None:
    """Each line of `shown` is one of `printed`, in order."""
    rest = iter([pattern(line) for line in printed])
    for line in shown:
        assert line == "..." or pattern(line) in rest, f"not printed: {line}"


def pattern(line: str) -> str:
    """`line` without numbers, and with single blanks; the names of modules and their order in a
    ranking follow from numbers, too."""
    if re.search(r"  (convolution|linear)  ", line):
        return "a row of the ranking"
    return re.sub(r"\s+", " ", re.sub(r"[-+]?\d[\d.,e+-]*", "#", line))
