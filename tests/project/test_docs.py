"""Every example in the README and in docstrings runs."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from sources import ROOT, modules

from trtnet.cli.main import main

SHELL_LINES = re.findall(r"^trtnet .*$", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("page", ["README.md", "docs/from_torch.md"])
def test_python_examples(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The python blocks of a page are one program, run in an empty folder."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks), page, "exec"), {"__name__": page})
    if page == "README.md":
        assert (tmp_path / "block.engine").stat().st_size > 0


@pytest.mark.parametrize("line", SHELL_LINES)
def test_trtnet_commands(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a folder that has nothing but ``docs``."""
    monkeypatch.chdir(tmp_path)
    Path("docs").symlink_to(ROOT / "docs")
    assert main(shlex.split(line, comments=True)[1:]) == 0
    assert capsys.readouterr().out


def test_relative_links_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page} links to {target}"
